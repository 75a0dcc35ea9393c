# SPDX-License-Identifier: Apache-2.0
"""The configuration of a fine-tuning: its sections, and where they come from.

In order, later ones win: configs/finetune/<task>.yaml, configs/paths.yaml, files that are named,
their section `large` if the encoder is of that kind, the words of the command line.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from downstream.config import FinetuneOptim, HiddenSpans
from downstream.ctc import CTC
from recipes.pretrain.settings import RunSection as PretrainRunSection
from recipes.run.initial_weights import check_shape, config_of_init, init_path, with_size
from recipes.run.sections import TrainerSection, WandbSection, plain_name
from recipes.superb.settings import CONFIGS, MINI, PathsSection
from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.config_stack import Stack
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
    sources: dict[str, str]  # dotted key -> the file or word that set it
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
    trainer: TrainerSection
    tensorboard: bool
    recompute: bool
    compile: bool
    seed: int


def build_parser(task: str, model: WavLMConfig) -> Parser:
    """The parser of a task, for an encoder of this configuration."""
    parser = Parser(prog="recipes.finetune", description=__doc__)
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
    return parser


def init_of(task: str, words: list[str]) -> str | None:
    """What a fine-tuning starts from, before anything else is read.

    Raises:
        ConfigError: for a task that there is not.
    """
    if task not in TASKS:
        raise ConfigError(f"no task {task} to fine-tune for; there is {', '.join(TASKS)}")
    found = Stack.of_words(words).get("init")
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
        ConfigError: naming the key, what it must be and what it is.
        FileNotFoundError: if there is nothing at `init`.
        ValueError: if what is there cannot be read.
    """
    init_of(task, words)
    known = start is not None
    said, (large,) = Stack.of_words(words).take("large")
    start = start or config_of_init(said)
    if start is None:
        raise ConfigError("init is not set: init=CHECKPOINT says which encoder to fine-tune")
    stack = Stack()
    for file in (CONFIGS / "finetune" / f"{task}.yaml", CONFIGS / "paths.yaml"):
        stack = stack.plus_file(file) if file.is_file() else stack
    files = said.files()
    stack += files
    if start.norm_first:
        stack = stack.plus("section large", large)
    stack += said.words()
    if not stack.get("run.name"):
        name = Path(files.layers[-1].source).stem if files.layers else task
        stack = stack.plus("the name of the last file", {"run.name": name})
    resolved = build_parser(task, start).resolve(with_size(stack, start))
    sections = resolved.sections
    check_shape(sections.model, start)
    if start.dim <= sections.spans.channels.length + 1:
        raise ConfigError(
            f"spans.channels.length={sections.spans.channels.length} is too long for the encoder's "
            f"{start.dim} channels"
        )
    plain_name("run.name", sections.run.name)
    source = Path(sections.init)
    if not known:
        source = init_path(sections.init, download=sections.download)
    kind = _kind_of_recordings(task, sections)
    return resolved.into(FinetuneSettings, name=task, kind=kind, source=source)


def _kind_of_recordings(task: str, parsed: Any) -> str:
    if parsed.data.manifest:
        return "manifest"
    return "mini" if getattr(parsed.paths, TASKS[task].corpus) == MINI else "official"
