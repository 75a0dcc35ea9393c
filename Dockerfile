# Everything that make needs, on a processor or, with `--gpus all`, on a GPU:
#   docker build -t wavlm .
#   docker run --rm -it --gpus all -v "$PWD/runs:/wavlm/runs" -v "$PWD/results:/wavlm/results" wavlm superb TASK=ks
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make procps bsdextrautils \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /wavlm
# Packages first: a change of code does not install them again.
COPY Makefile pyproject.toml requirements.lock README.md LICENSE ./
COPY wavlm_lightning wavlm_lightning
COPY downstream downstream
COPY recipes recipes
COPY configs configs
RUN make setup
COPY . .
ENTRYPOINT ["make"]
CMD ["help"]
