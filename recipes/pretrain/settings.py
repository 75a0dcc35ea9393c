# SPDX-License-Identifier: Apache-2.0
"""The configuration of pre-training: its sections, and reading it from files and arguments."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.config_stack import Stack
from wavlm_lightning.fields import SEEDS, Checked, number, whole
from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.masking import SpanMask
from wavlm_lightning.model.config import COMPILABLE, SIZES, WavLMConfig
from wavlm_lightning.model.earlier_names import KEYS
from wavlm_lightning.names import safe_name
from wavlm_lightning.pretrain.config import DataConfig, OptimConfig
from wavlm_lightning.pretrain.corpora import ReadOptions
from wavlm_lightning.pretrain.mixing import MixingConfig
from wavlm_lightning.pretrain.objective import ObjectiveConfig
from wavlm_lightning.recipes.run.initial_weights import (
    check_shape,
    config_of_init,
    init_path,
    with_size,
)
from wavlm_lightning.recipes.run.sections import (
    TrainerSection,
    WandbSection,
    add_trainer,
    fast_dev_run,
    plain_name,
)

MINI = "mini"  # in place of a folder: the corpus that this project makes itself


@dataclass(frozen=True, kw_only=True)
class DataSection(DataConfig, ReadOptions):
    """Where recordings are, how they are read, and how they become batches.

    Args:
        root: folder of recordings, or "mini" for the corpus that is made here.
        noise: folder of noise, or "mini"; not needed with mixing.noise_prob=0.
    """

    root: str
    noise: str | None = None


@dataclass(frozen=True, kw_only=True)
class LabelSection(Checked):
    """Where frame labels come from.

    Args:
        features: what is clustered: MFCC, or a hidden layer of the iteration before.
        layer: that layer, counted from 1.
        num_clusters: codes.
        preset: k-means with HuBERT's settings, or the fast one.
        fit_share: share of the utterances that the codebook is fitted on.
        max_fit_frames: most frames it is fitted on; bounds the memory.
        teacher: checkpoint that gives the hidden layer, in place of the iterations before.
        precision: of its forward pass; auto is bfloat16 where the device computes in it.
        folders: finished label folders, one a label set; nothing is clustered then.
    """

    features: Literal["mfcc", "hidden"]
    num_clusters: int = whole(2, 10**6)
    layer: int = whole(0, 1000, default=0)
    preset: Literal["fast", "fairseq"] = "fast"
    fit_share: float = number(0, 1, above=True, default=0.1)
    max_fit_frames: int = whole(1, 10**12, default=2_000_000)
    teacher: str | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    folders: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RunSection(Checked):
    """Where a run writes, and how often.

    Args:
        dir: folder of all runs.
        name: of this configuration; the name of its file if not said, for recordings in place of
            the mini corpus with the name of their folder.
        resume: go on with the latest run if it is unfinished and has the same configuration.
        validate_updates: updates from one validation to the next.
        checkpoint_updates: updates from one checkpoint to the next.
    """

    validate_updates: int = whole(1)
    checkpoint_updates: int = whole(1)
    dir: str = "runs/pretrain"
    name: str = ""
    resume: bool = True


def build_parser(model: WavLMConfig) -> Parser:
    """The parser whose section `model` has these values where nothing is said."""
    parser = Parser(prog="wavlm pretrain", description=__doc__)
    parser.add_section(WavLMConfig, "model", default=model)
    parser.add_hints("", {"teachers": "set iterations"})  # its name until 28 November 2026
    parser.add_hints("model", {old: f"set model.{new}" for old, new in KEYS.items()})
    parser.add_section(DataSection, "data")
    parser.add_section(SpanMask, "mask")
    parser.add_section(MixingConfig, "mixing")
    parser.add_section(LabelSection, "labels")
    parser.add_section(ObjectiveConfig, "objective")
    parser.add_section(OptimConfig, "optim")
    add_trainer(parser)
    parser.add_section(RunSection, "run")
    parser.add_section(WandbSection, "wandb", default=WandbSection())
    parser.add_argument("--tensorboard", type=bool, default=False, help="log there too")
    parser.add_argument("--compile", type=bool, default=False, help="torch.compile the encoder")
    parser.add_argument(
        "--recompute",
        type=bool,
        default=False,
        help="run blocks twice to keep less",
    )
    parser.add_number("seed", SEEDS, type=int, default=0, help="of everything that is drawn")
    parser.add_argument(
        "--init",
        type=str,
        default="",
        help="what training starts from: anything that load_wavlm reads",
    )
    parser.add_argument(
        "--download",
        type=bool,
        default=False,
        help="fetch a hub id in init that is not on this machine yet",
    )
    parser.add_argument(
        "--iterations",
        type=list[dict[str, Any]],
        default=[],
        help="iterations before this one, in order: the settings in which each differs",
    )
    return parser


@dataclass(frozen=True)
class Settings:
    """A configuration, as plain values and as the objects of its sections."""

    values: dict[str, Any]
    sources: dict[str, str]  # dotted key -> the file or word that set it
    model: WavLMConfig
    data: DataSection
    mask: SpanMask
    mixing: MixingConfig
    labels: LabelSection
    objective: ObjectiveConfig
    optim: OptimConfig
    run: RunSection
    wandb: WandbSection
    trainer: TrainerSection
    tensorboard: bool
    compile: bool
    recompute: bool
    seed: int
    init: str
    download: bool
    iterations: list[dict[str, Any]]

    @property
    def source(self) -> Path | None:
        """File or folder that training starts from, if it does not start from nothing."""
        return init_path(self.init, download=self.download) if self.init else None


def read_settings(argv: list[str]) -> Settings:
    """Settings from arguments such as `--config=FILE` and `--optim.lr=1e-3`.

    Raises:
        ConfigError: naming the key, what it must be and what it is.
        FileNotFoundError: if there is nothing at `init`.
        ValueError: if what is there cannot be read.
    """
    return _settings_of(Stack.of_overrides(argv))


def read_chain(argv: list[str]) -> list[Settings]:
    """The settings of all iterations in their order; those of `read_settings` are the last.

    Raises:
        ConfigError: also naming the iteration.
    """
    stack = Stack.of_overrides(argv)
    last = _settings_of(stack)
    return [*(_teacher(stack, last, i) for i in range(len(last.iterations))), last]


def _teacher(stack: Stack, last: Settings, index: int) -> Settings:
    """An iteration before the last: the configuration with its differences."""
    name = f"iterations, item {index + 1}"
    own = {**last.iterations[index], "iterations": last.iterations[:index]}
    try:
        return _settings_of(stack.plus(name, own))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def keys_of(argv: list[str]) -> tuple[Parser, Stack]:
    """All keys, and what the command line says of them."""
    stack = Stack.of_overrides(argv)
    return build_parser(config_of_init(stack) or WavLMConfig.preset(_size(stack))), stack


def _settings_of(stack: Stack) -> Settings:
    stack, start = fast_dev_run(stack), config_of_init(stack)
    model = start or WavLMConfig.preset(_size(stack))
    name = "model.size" if start is None else "init"
    stack = Stack().plus(name, {"model": model.to_dict()}) + stack
    parser = build_parser(model)
    if not stack.get("run.name"):
        stack = stack.plus("the name of the first file", {"run.name": _name(stack)})
    resolved = parser.resolve(stack if start is None else with_size(stack, start))
    if start is not None:
        check_shape(resolved.sections.model, start)
    plain_name("run.name", resolved.values["run"]["name"])
    return resolved.into(Settings)


def check_chain(chain: list[Settings]) -> None:
    """Find what would only fail hours later.

    Raises:
        ValueError: naming the setting.
        FileNotFoundError: naming the file.
    """
    for before, stage in zip([None, *chain[:-1]], chain, strict=True):
        labels = stage.labels
        for path in [*labels.folders, *([labels.teacher] if labels.teacher else [])]:
            if not Path(path).exists():
                raise FileNotFoundError(f"no labels or teacher at {path}")
        frames = conv_lengths(stage.data.min_samples)
        if frames <= stage.mask.length + 1:
            raise ValueError(
                f"data.min_samples={stage.data.min_samples} gives {frames} frames, mask.length="
                f"{stage.mask.length} needs more than {stage.mask.length + 1}"
            )
        if stage.mask.prob == 0 and stage.mask.min_spans == 0:
            raise ValueError("mask.prob=0 with mask.min_spans=0 hides nothing: there is no task")
        if stage.compile and stage.model.attention not in COMPILABLE:
            raise ValueError(
                f"model.attention must be {' or '.join(COMPILABLE)} with compile=true (got "
                f"{stage.model.attention})"
            )
        if labels.folders or labels.teacher or labels.features == "mfcc":
            continue
        teacher = stage if stage.init else before
        if teacher is None:
            raise ValueError(
                "labels.features=hidden needs a teacher: say labels.teacher=CHECKPOINT, or give "
                "the iterations before in iterations"
            )
        if not 1 <= labels.layer <= teacher.model.num_layers:
            raise ValueError(
                f"labels.layer={labels.layer}: the teacher has layers 1 to "
                f"{teacher.model.num_layers}"
            )


def _name(stack: Stack) -> str:
    """The name of the first file; of the mini one with other recordings, theirs is added.

    Else a model of those would become the upstream that stands for the mini corpus.
    """
    files = stack.files()
    if not files.layers:
        return "unnamed"
    name, root = Path(files.layers[0].source).stem, stack.get("data.root", "")
    if files.get("data.root") == MINI != root:
        name += f"-{safe_name(Path(root).resolve().name)}"
    return name


def _size(stack: Stack) -> str:
    size = str(stack.get("model.size") or "base")
    if size not in SIZES:
        raise ConfigError(f"model.size must be one of {', '.join(SIZES)} (got {size})")
    return size
