# Upper-case words are make's own; lower-case words on the command line are configuration:
#   make pretrain CONFIG=configs/pretrain/base.yaml data.root=DIR optim.lr=1e-3
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
EXTRAS ?=
SLIM ?=
DRY ?=
# Another allocator for this command: less memory, some more time (README, Speed).
ALLOC ?=

UV_VERSION := 0.13.8
UV ?= $(or $(shell command -v uv),.uv/bin/uv)
# What a machine without a GPU does without; torch imports and trains on the CPU without them.
SLIM_PACKAGES := triton nvidia-cusolver nvidia-cuda-nvrtc nvidia-nvtx cuda-bindings cuda-pathfinder
COMPILE = $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links
INSTALL := VIRTUAL_ENV=.venv $(UV) pip install -q --no-deps --require-hashes
# `wandb agent` starts the word python: ours comes first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# key=value words of the command line, each quoted once for the shell; recipes/cli.py reads them.
quoted = '$(subst ','\'',$(1))'
lower := $(shell echo {a..z})
is_config = $(if $(filter command%,$(origin $(1))),$(if $(filter $(addsuffix %,$(lower)),$(1)),$(1)))
keys = $(sort $(foreach v,$(.VARIABLES),$(call is_config,$(v))))
words = $(foreach v,$(keys),$(call quoted,$(v)=$(value $(v))))
options = $(foreach v,$(keys),$(call quoted,--$(v)=$(value $(v))))
# Upper-case words: all that were typed, and of the environment's those that the program takes.
WORDS := CONFIG TASK UPSTREAM LR SEED COUNT CKPT TO IN OUT LOCAL NAME DIR
passed = $(foreach v,$(WORDS),$(if $(filter command%,$(origin $(v)))$(and $(filter environment%,$(origin $(v))),$(filter $(v),$(1))),$(call quoted,$(v)=$(value $(v)))))
run = python -m recipes.cli $(1) $(call passed,$(2)) $(words)

# make takes any word of the form NAME=value and says nothing about a name that it has no use for.
KNOWN := PYTHON EXTRAS SLIM $(WORDS) DRY ALLOC UV SHELL
typed := $(foreach v,$(.VARIABLES),$(if $(filter command%,$(origin $(v))),$(v)))
unknown := $(firstword $(foreach v,$(filter-out $(KNOWN),$(typed)),$(if $(call is_config,$(v)),,$(v))))
nearest = import difflib, sys; name, *known = sys.argv[1:]; found = difflib.get_close_matches(name.upper(), known, 1, 0.4); \
  print("configuration is in lower case, say " + name.lower() if "." in name else "the nearest one is " + found[0] if found else "there are " + ", ".join(known))
ifneq ($(unknown),)
$(error $(unknown) is not a word of this Makefile: $(shell $(PYTHON) -c $(call quoted,$(nearest)) $(call quoted,$(unknown)) $(KNOWN)))
endif
# What a shell's profile sets works as if it were typed, so it is said.
$(foreach v,$(filter-out SHELL,$(KNOWN)),$(if $(filter environment%,$(origin $(v))),$(shell echo note: $(v)=$(call quoted,$(value $(v))) is taken from the environment >&2)))

allocator = import ctypes.util, sys; print(ctypes.util.find_library(sys.argv[1]) or "")
ifneq ($(ALLOC),)
$(if $(filter-out jemalloc,$(ALLOC)),$(error ALLOC must be jemalloc or nothing (got $(ALLOC))))
export LD_PRELOAD := $(shell $(PYTHON) -c $(call quoted,$(allocator)) $(ALLOC))
$(if $(LD_PRELOAD),,$(error ALLOC=jemalloc needs that library, which is not here: apt install libjemalloc2))
endif

.PHONY: help setup setup-dev pretrain superb tasks sweep table fidelity submission lexicon corpus export finetune labels manifest predict features config bench gpu-check test test-all mutate docs notebook check format lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

define check_python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null || \
  { echo "Python 3.11 or 3.12 is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1 | head -1): say PYTHON=python3.12" >&2; exit 1; }
endef

.uv/bin/uv:
	@$(check_python)
	@echo "setting up: uv $(UV_VERSION) into .uv"
	@$(PYTHON) -m venv .uv || { echo "install python3-venv, or say UV=path/to/uv" >&2; exit 1; }
	@.uv/bin/pip install -q --disable-pip-version-check uv==$(UV_VERSION)

.venv/bin/python: | $(UV)
	@$(check_python)
	@$(UV) venv -q --python "$$(command -v $(PYTHON))" .venv

.venv/.run: requirements.lock pyproject.toml | .venv/bin/python
	@echo "setting up: packages of requirements.lock into .venv (2.7 GB to fetch the first time, once a machine)"
	@$(INSTALL) -r $(if $(SLIM),<(.venv/bin/python -m recipes.slim requirements.lock $(SLIM_PACKAGES)),requirements.lock)
	@VIRTUAL_ENV=.venv $(UV) pip install -q --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: requirements-dev.lock | .venv/.run
	@echo "setting up: test tools of requirements-dev.lock into .venv"
	@$(INSTALL) -r requirements-dev.lock
	@touch $@

setup: .venv/.run ## set up the environment alone (SLIM=1: without what only a GPU needs; EXTRAS=tensorboard)
	@$(if $(EXTRAS),VIRTUAL_ENV=.venv $(UV) pip install -q -r pyproject.toml $(foreach e,$(EXTRAS),--extra $(call quoted,$(e))),:)

setup-dev: .venv/.dev ## set up the environment with test tools

pretrain: .venv/.run ## train WavLM:  make pretrain [CONFIG=configs/pretrain/mini.yaml] [data.root=DIR] [key=value ...]
	@$(call run,pretrain,CONFIG)

superb: .venv/.run ## evaluate a frozen upstream:  make superb TASK=asv|...|all [UPSTREAM=wavlm_mini] [LR=1e-3|1e-4,1e-3|sweep] [SEED=0,1,2] [key=value ...]
	@$(call run,superb,TASK UPSTREAM LR SEED)

tasks: .venv/.run ## list the tasks of make superb
	@$(call run,tasks)

sweep: .venv/.run ## search settings with W&B:  make sweep TASK=asv|pretrain [UPSTREAM=wavlm_base] [LOCAL=1: here, no account] [COUNT=10] [key=value ...]
	@$(call run,sweep,TASK UPSTREAM COUNT LOCAL)

table: .venv/.run ## tabulate results beside published ones: results/table.md and results/report.html
	@$(call run,table)

fidelity: .venv/.run ## compare the tasks with their published protocols, value by value
	@$(call run,fidelity,TASK)

export: .venv/.run ## export a model to other libraries:  make export CKPT=... TO=transformers|released|torchaudio|torch_export OUT=DIR [push_to_hub=NAME]
	@$(call run,export,CKPT TO OUT)

finetune: .venv/.run ## train encoder and head:  make finetune TASK=er [UPSTREAM=wavlm_mini or CKPT] [CONFIG=configs/finetune/ctc_100h.yaml] [key=value ...]
	@$(if $(filter config,$(MAKECMDGOALS)),:,$(call run,finetune,TASK UPSTREAM CONFIG))

predict: .venv/.run ## predict with a trained head:  make predict CKPT=runs/superb/.../best.ckpt IN=FILE|DIR OUT=DIR [upstream=SOURCE]
	@$(call run,predict,CKPT IN OUT)

features: .venv/.run ## write features of recordings:  make features UPSTREAM=wavlm_base IN=FILE|DIR OUT=DIR [layer=9|last|mean|all]
	@$(call run,features,UPSTREAM IN OUT)

submission: .venv/.run ## pack predictions for SUPERB's leaderboard:  make submission UPSTREAM=wavlm_base [out=FILE]
	@$(call run,submission,UPSTREAM)

corpus: .venv/.run ## check an official corpus:  make corpus NAME=librispeech DIR=LibriSpeech [task=asr] [hashes=true]
	@$(call run,corpus,NAME DIR)

lexicon: .venv/.run ## spell words that no lexicon has, for PR:  make lexicon root=LibriSpeech [out=FILE]
	@$(call run,lexicon)

labels: .venv/.run ## label recordings:  make labels root=DIR out=DIR features=hidden teacher=CKPT layer=6 num_clusters=500
	@$(call run,labels)

manifest: .venv/.run ## list recordings in fairseq's tsv:  make manifest root=DIR out=DIR
	@$(call run,manifest)

config: .venv/.run ## show a configuration and what set each key:  make config [CONFIG=...] or [finetune] TASK=asv [UPSTREAM=...] [key=value ...]
	@$(call run,config $(filter finetune,$(MAKECMDGOALS)),CONFIG TASK UPSTREAM)

bench: .venv/.dev ## measure speed and memory beside transformers and torchaudio:  make bench [runs=5] [parts=time,memory,loading,probing]
	@python -m benchmarks.bench $(options)

gpu-check: .venv/.run ## check correctness and speed on this GPU in six minutes:  make gpu-check [DRY=1: run it on a CPU]
	@python -m benchmarks.gpu_check$(if $(DRY), --sizes=base --out=.cache/gpu-check --dry) $(options)

test: .venv/.dev ## run the tests but the slow ones, in two processes
	@OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile -m "not slow"

test-all: .venv/.dev ## run all tests, in two processes
	@OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile

mutate: .venv/.dev ## break one line of the core at a time and see the tests fail:  make mutate [only=mixing]
	@python -m tests.mutate $(call quoted,$(only))

docs: .venv/.dev ## build the site into .cache/site, offline and strict
	@NO_MKDOCS_2_WARNING=1 python -m mkdocs build -q

notebook: .venv/.dev ## execute notebooks/quick_tour.ipynb in place, after make pretrain
	@python docs/execute.py notebooks/quick_tour.ipynb

check: .venv/.dev ## lint, format, types, layers
	@ruff check . && ruff format --check . && mypy && python -m pytest -q tests/test_layers.py

format: .venv/.dev ## format the code
	@ruff format . && ruff check --fix .

lock: | $(UV) ## resolve the dependencies into requirements.lock and requirements-dev.lock
	@$(COMPILE) --extra mini --group build pyproject.toml -o requirements.lock
	@$(COMPILE) --extra mini --group build --group dev --group docs -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## remove environments and caches; runs and results stay
	@rm -rf .venv .uv .cache .pytest_cache .ruff_cache .mypy_cache
