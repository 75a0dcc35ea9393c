# SPDX-License-Identifier: Apache-2.0
"""The configuration of a fine-tuning: its sections, and where they come from.

In order, later ones win: configs/finetune/<task>.yaml, configs/paths.yaml, files that are named,
their section `large` if the encoder is of that kind, the words of the command line.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from downstream.config import FinetuneOptim, HiddenSpans
from downstream.ctc import CTC
from recipes.pretrain.settings import RunSection as PretrainRunSection
from recipes.run.initial_weights import as_it_was_trained, config_of_init, find_word, init_path
from recipes.run.sections import TrainerSection, WandbSection, plain_name
from recipes.superb.settings import CONFIGS, MINI, PathsSection
from wavlm_lightning.config import ConfigError, Parser, read_yaml
from wavlm_lightning.fields import SEEDS, Checked, number, whole
from wavlm_lightning.model.config import WavLMConfig

TASKS = {"ctc": CTC}


@dataclass(frozen=True, kw_only=True)
class DataSection(Checked):
    """How utterances become batches of about the same length.

    Args:
        seconds_per_batch: of audio, about.
        seconds_per_update: over all processes and accumulated batches, about.
        eval_seconds: most seconds of audio in a batch of evaluation.
        num_workers: loading processes; 0 loads in the training process.
        manifest: a folder with a manifest.tsv in place of the corpus.
        check: as in downstream/config.py.
        bad_files: an unusable recording ends in an error, or is left out and counted.
    """

    seconds_per_batch: float = number(0, 10**6, above=True)
    seconds_per_update: float = number(0, 10**9, above=True)
    eval_seconds: float = number(0, 10**6, above=True, default=120.0)
    num_workers: int = whole(0, 1024, default=1)
    manifest: str | None = None
    check: Literal["auto", "full", "header", "none"] = "auto"
    bad_files: Literal["error", "drop"] = "error"


@dataclass(frozen=True, kw_only=True)
class RunSection(PretrainRunSection):
    """As that of pre-training, in a folder of its own."""

    dir: str = "runs/finetune"


@dataclass(frozen=True)
class FinetuneSettings:
    """A configuration, as plain values and as the objects of its sections."""

    values: dict[str, Any]
    name: str  # of the task
    kind: str  # mini, official or manifest: where the recordings come from
    source: Path  # what training starts from
    task: Any
    model: WavLMConfig
    data: DataSection
    optim: FinetuneOptim
    spans: HiddenSpans
    paths: PathsSection
    run: RunSection
    wandb: WandbSection
    trainer: dict[str, Any]
    tensorboard: bool
    recompute: bool
    compile: bool
    seed: int


def build_parser(task: str, model: WavLMConfig) -> Parser:
    """The parser of a task, for an encoder of this configuration."""
    parser = Parser(prog="recipes.finetune", description=__doc__)
    parser.add_argument("--config", action="config", help="a YAML file; later files and words win")
    parser.add_argument(
        "--init", type=str, required=True, help="the encoder: anything that load_wavlm reads"
    )
    parser.add_argument(
        "--download", type=bool, default=False, help="fetch a hub id in init that is not here yet"
    )
    parser.add_section(TASKS[task].Config, "task")
    parser.add_section(WavLMConfig, "model", default=model)
    parser.add_section(DataSection, "data")
    parser.add_section(FinetuneOptim, "optim")
    parser.add_section(HiddenSpans, "spans")
    parser.add_section(PathsSection, "paths", default=PathsSection())
    parser.add_section(RunSection, "run")
    parser.add_section(WandbSection, "wandb", default=WandbSection())
    parser.add_section(TrainerSection, "trainer", default=TrainerSection())
    parser.add_argument("--tensorboard", type=bool, default=False, help="log there too")
    parser.add_argument("--compile", type=bool, default=False, help="torch.compile the encoder")
    parser.add_argument(
        "--recompute", type=bool, default=False, help="run blocks twice to keep less"
    )
    parser.add_number("seed", SEEDS, type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--large", type=dict[str, Any], default={}, help="for Large's kind")
    return parser


def init_of(task: str, words: list[str]) -> str | None:
    """What a fine-tuning starts from, before anything else is read.

    Raises:
        ConfigError: for a task that there is not.
    """
    if task not in TASKS:
        raise ConfigError(f"no task {task} to fine-tune for; there is {', '.join(TASKS)}")
    found = find_word(words, "init")
    return str(found) if found else None


def read_finetune_settings(
    task: str, words: list[str], *, start: WavLMConfig | None = None
) -> FinetuneSettings:
    """Settings of a task from words such as `--config=FILE` and `--init=CHECKPOINT`.

    Args:
        task: A name in `TASKS`.
        words: Of the command line.
        start: Of the model at `init`, if that is not there yet.

    Raises:
        ConfigError: naming the key, what it wants and what it got.
        FileNotFoundError: if there is nothing at `init`.
        ValueError: if what is there cannot be read.
    """
    init_of(task, words)
    known = start is not None
    common = [CONFIGS / "finetune" / f"{task}.yaml", CONFIGS / "paths.yaml"]
    first = [f"--config={file}" for file in common if file.is_file()]
    files = [word for word in words if word.startswith("--config=")]
    rest = [word for word in words if not word.startswith("--config=")]
    start = start or config_of_init([*files, *rest])
    if start is None:
        raise ConfigError("init is not set: init=CHECKPOINT says which encoder to fine-tune")
    large = [word for file in files for word in _large(file)] if start.norm_first else []
    try:
        parser = build_parser(task, start)
        parsed = parser.parse_args([*first, *files, *large, *rest])
        objects = parser.instantiate(parsed)
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error
    values: dict[str, Any] = yaml.safe_load(parser.dump(parsed, skip_none=False))
    for key in ("config", "large"):
        values.pop(key, None)
    values["model"] = as_it_was_trained(values["model"], start)
    if start.dim <= objects.spans.channels.length + 1:
        raise ConfigError(
            f"spans.channels.length={objects.spans.channels.length} is too long for the encoder's "
            f"{start.dim} channels"
        )
    if not values["run"]["name"]:
        values["run"]["name"] = Path(files[-1].partition("=")[2]).stem if files else task
    plain_name("run.name", values["run"]["name"])
    about = {
        "name": task,
        "kind": _kind_of_recordings(task, parsed),
        "source": Path(parsed.init) if known else init_path(parsed.init, download=parsed.download),
        "model": WavLMConfig(**values["model"]),
        "run": RunSection(**values["run"]),
        "trainer": values["trainer"],
    }
    names = set(FinetuneSettings.__annotations__) - set(about) - {"values"}
    return FinetuneSettings(values=values, **about, **{n: getattr(objects, n) for n in names})


def _large(file: str) -> list[str]:
    """Words of the section `large` of a `--config=FILE`."""
    section = read_yaml(Path(file.partition("=")[2])).get("large") or {}
    return [f"--{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in section.items()]


def _kind_of_recordings(task: str, parsed: Any) -> str:
    if parsed.data.manifest:
        return "manifest"
    return "mini" if getattr(parsed.paths, TASKS[task].corpus) == MINI else "official"
