# SPDX-License-Identifier: Apache-2.0
"""The configuration of a SUPERB task on an upstream: its sections, and where they come from.

In order, later ones win: the task's YAML, configs/paths.yaml, the upstream's YAML, the `mini`
section of the task where that protocol is in force, the command line.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from wavlm_lightning.config import ConfigError, with_home
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.config_stack import Layer, Stack
from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.downstream.adapt.policy import AdaptationConfig, InputMasking
from wavlm_lightning.downstream.config import DataConfig, OptimConfig
from wavlm_lightning.downstream.features.cache import CacheConfig
from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.featurizer import FeaturizerConfig
from wavlm_lightning.downstream.features.kinds import kind_names
from wavlm_lightning.downstream.features.upstream import hub_kind, kind_of
from wavlm_lightning.downstream.task import Task
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.fields import SEEDS, Checked, whole
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.names import safe_name
from wavlm_lightning.recipes.run.devices import with_precision
from wavlm_lightning.recipes.run.sections import (
    TrainerSection,
    WandbSection,
    add_trainer,
    fast_dev_run,
    plain_name,
)
from wavlm_lightning.recipes.superb.heads import HeadsSection
from wavlm_lightning.shipped import command, config_file, config_names

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
FILES = (".ckpt", ".pt", ".safetensors", ".onnx")  # a missing file, no hub id
CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
MINI = "mini"  # in place of a folder: a synthetic corpus of the same layout, made here
# Sections of a task's YAML that no run is configured by: what is added to the others for upstreams
# of a kind and for mini corpora, and what tables and hints say.
OVERLAYS = ("of_upstream_kind", "mini", "large", "published_also", "published_lr")


@dataclass(frozen=True, kw_only=True)
class UpstreamSection(UpstreamConfig):
    """The upstream, and what it is called.

    Args:
        name: in results and tables; the name of its YAML or file if not said.
    """

    name: str = ""


@dataclass(frozen=True, kw_only=True)
class DataSection(DataConfig):
    """How examples become batches, or a folder to use in place of the corpus.

    Args:
        manifest: a folder with a manifest.tsv, see downstream/corpora/manifest.py.
        layout: module:Class that reads this folder in place of its manifest.tsv, where it has a
            layout of its own; see docs/extend.md.
    """

    manifest: str | None = None
    layout: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout is not None and self.manifest is None:
            raise ValueError("data.layout needs data.manifest: set it to the folder that it reads")


@dataclass(frozen=True, kw_only=True)
class PathsSection:
    """Folders of corpora in their official layouts; `mini` for a synthetic stand-in.

    Args:
        librispeech: holds train-clean-100, dev-clean and test-clean.
        librilight: holds 1h and 9h, for fine-tuning (librispeech_finetuning.tgz).
        voxceleb1: holds dev/wav, test/wav and veri_test.txt.
        iemocap: holds Session1 to Session5.
        librimix: Libri2Mix, holds wav16k and data.
        speech_commands: holds speech_commands_v0.01 and speech_commands_test_set_v0.01.
        quesst14: quesst14Database, holds Audio, dev_queries, eval_queries and scoring.
        fluent_commands: fluent_speech_commands_dataset, holds data and wavs.
        audio_snips: holds train, valid, test, all.iob.snips.txt and slots.txt.
    """

    librispeech: str | None = MINI
    librilight: str | None = None
    voxceleb1: str | None = MINI
    iemocap: str | None = MINI
    librimix: str | None = MINI
    speech_commands: str | None = MINI
    quesst14: str | None = MINI
    fluent_commands: str | None = MINI
    audio_snips: str | None = MINI


@dataclass(frozen=True, kw_only=True)
class RunSection(Checked):
    """Where a run writes, and how often.

    Args:
        validate_updates: updates from one validation to the next.
        checkpoint_updates: updates from one checkpoint to the next.
        dir: folder of all runs.
        results: folder of results, one file a task and upstream.
        resume: go on with the latest run if it is unfinished and has the same configuration.
        threads: of heads on the processor, None for torch's own choice, which upstreams have
            always. Small recurrent heads are fastest on one: their products are too small to share.
    """

    validate_updates: int = whole(1)
    checkpoint_updates: int = whole(1)
    threads: int | None = whole(1, 4096, default=None)
    dir: str = "runs/superb"
    results: str = "results"
    resume: bool = True


# Of a task that trains nothing, whose YAML is silent about them.
UNTRAINED: dict[str, Any] = {
    "data": DataSection(batch_size=1, batches_per_update=1, order="random"),
    "optim": OptimConfig(
        name="adam",
        lr=1.0,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        clip=0.0,
        total_updates=1,
    ),
    "run": RunSection(validate_updates=1, checkpoint_updates=1),
}


@dataclass(frozen=True)
class TaskSettings:
    """A configuration, as plain values and as the objects of its sections."""

    values: dict[str, Any]
    sources: dict[str, str]  # dotted key -> the file or word that set it
    kind: str  # mini, official or manifest: where the recordings come from
    task: Any
    upstream: UpstreamSection
    featurizer: FeaturizerConfig
    data: DataSection
    cache: CacheConfig
    optim: OptimConfig
    heads: HeadsSection
    paths: PathsSection
    run: RunSection
    wandb: WandbSection
    trainer: TrainerSection
    tensorboard: bool
    seed: int
    protocol: str
    published: dict[str, float]
    published_lr: dict[str, float]
    # Of an encoder that trains with the head; as they stand here for a frozen one.
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    masking: InputMasking = field(default_factory=InputMasking)
    model: WavLMConfig | None = None
    recompute: bool = False
    compile: bool = False
    stages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def tuned(self) -> bool:
        """Whether the encoder trains."""
        return self.adaptation.encoder != "frozen"

    @property
    def devices(self) -> TrainerSection:
        """Devices and precision: a head is small, and a frozen upstream has one of its own."""
        return with_precision(self.trainer, None if self.tuned else "32-true")

    def with_hash(self, digest: str) -> "TaskSettings":
        """Settings with the hash of the upstream's weights, a name of results and features."""
        upstream = self.values["upstream"] | {"sha256": digest}
        return dataclasses.replace(self, values=self.values | {"upstream": upstream})

    @property
    def corpus(self) -> str:
        """Name of the corpus or of the manifest's folder, `mini` for the stand-in."""
        if self.kind == "manifest":
            return Path(str(self.data.manifest)).resolve().name
        return self.kind


def stem(task: str, settings: TaskSettings, seed: int) -> str:
    """Name of a result: the task, the folder of a manifest, a seed that is not 0."""
    name = task if settings.kind != "manifest" else f"{task}.{safe_name(settings.corpus)}"
    return name if seed == 0 else f"{name}.seed{seed}"


def build_parser(task: type[Task[Any]], *, run: type[RunSection] = RunSection) -> Parser:
    """The parser of one task.

    Args:
        task: Its class.
        run: Section `run`.
    """
    parser = Parser(prog="wavlm superb", description=__doc__)
    parser.add_section(task.Config, "task")
    parser.add_section(UpstreamSection, "upstream")
    parser.add_section(FeaturizerConfig, "featurizer", default=FeaturizerConfig())
    parser.add_section(DataSection, "data", **_untrained(task, "data"))
    parser.add_section(CacheConfig, "cache", default=CacheConfig())
    parser.add_section(OptimConfig, "optim", **_untrained(task, "optim"))
    parser.add_section(HeadsSection, "heads", default=HeadsSection())
    paths = _paths_section()
    parser.add_section(paths, "paths", default=paths())
    parser.add_section(run, "run", **_untrained(task, "run"))
    parser.add_section(WandbSection, "wandb", default=WandbSection())
    add_trainer(parser)
    parser.add_argument("--tensorboard", type=bool, default=False, help="log there too")
    parser.add_number("seed", SEEDS, type=int, default=0, help="of everything that is drawn")
    parser.add_argument(
        "--protocol",
        type=Literal["auto", "published", "mini"],
        default="auto",
        help="published values, or those for the mini corpora, which auto also takes for manifests",
    )
    parser.add_argument("--published", type=dict[str, float], default={}, help="published scores")
    return parser


def _paths_section() -> type[PathsSection]:
    """Section `paths` with a key, not set, for each corpus of a task that it does not name."""
    known = {f.name for f in dataclasses.fields(PathsSection)}
    own = sorted({load_task(name).corpus for name in task_names()} - known)
    fields = [(name, str | None, field(default=None)) for name in own]
    return dataclasses.make_dataclass(
        "PathsSection", fields, bases=(PathsSection,), frozen=True, kw_only=True
    )


def _untrained(task: type[Task[Any]], section: str) -> dict[str, Any]:
    return {} if issubclass(task, TrainedTask) else {"default": UNTRAINED[section]}


def keys_of(argv: list[str]) -> tuple[Parser, Stack]:
    """All keys of a task on an upstream, and what files and the command line say of them."""
    reading = _read(*task_and_upstream(argv))
    return build_parser(reading.task), reading.files + reading.said


def task_and_upstream(argv: list[str]) -> tuple[str, str, list[str]]:
    """Task, upstream and the overrides behind them.

    Raises:
        ConfigError: if they are not the first two arguments.
    """
    if len(argv) < 2 or any(word.startswith("--") for word in argv[:2]):
        tasks = ", ".join([*task_names(), *task_names("finetuning")])
        raise ConfigError(f"the first two arguments must be a task and an upstream; tasks: {tasks}")
    return argv[0], argv[1], argv[2:]


class Reading(NamedTuple):
    """What the configuration of a task is read from."""

    task: type[Task[Any]]
    files: Stack  # with what is added for the upstream and the recordings
    said: Stack  # by the command line
    where: str  # mini, official or manifest
    published_lr: dict[str, float]
    large: dict[str, Any]  # values for encoders of Large's kind

    def resolve(self, parser: Parser, *later: Layer, **fields: Any) -> TaskSettings:
        """The settings.

        Args:
            parser: Of the task.
            later: Layers that win over the command line.
            fields: Of the settings, that no section holds.
        """
        stack = fast_dev_run(self.files + self.said + Stack(later), results=True)
        resolved = parser.resolve(stack)
        plain_name("upstream.name", resolved.values["upstream"]["name"])
        fields |= {"kind": self.where, "published_lr": self.published_lr}
        return resolved.into(TaskSettings, **fields)


def read_probe_settings(task: str, upstream: str, overrides: list[str]) -> TaskSettings:
    """Settings of a task on a frozen upstream.

    Args:
        task: A name of `downstream.tasks`.
        upstream: A name in configs/upstream, or a checkpoint or folder.
        overrides: Arguments of the command line, such as `--optim.lr=1e-3`.

    Raises:
        ConfigError: naming the key, what it must be and what it is.
    """
    reading = _read(task, upstream, overrides)
    return reading.resolve(build_parser(reading.task))


def _read(task: str, upstream: str, overrides: list[str]) -> Reading:
    if load_task(task).suite != "superb":
        raise ConfigError(f"{task} trains its encoder: {command()} finetune TASK={task}")
    return read_files(task, upstream, overrides, [config_file("superb", f"{task}.yaml")])


def read_files(task: str, upstream: str, overrides: list[str], files: list[Path]) -> Reading:
    """Read every file that a task's configuration comes from, once.

    Args:
        task: A name of `downstream.tasks`.
        upstream: A name in configs/upstream, or a checkpoint or folder.
        overrides: Arguments of the command line.
        files: Of the task, the weaker first.

    Raises:
        ConfigError: naming the file that cannot be read, or the upstream that is not there.
    """
    kind, stack = load_task(task), Stack()
    for file in files:
        stack = stack.plus_file(file)
    if (paths := config_file("paths.yaml")).is_file():
        stack = stack.plus_file(paths)
    stack, below = (stack + upstream_stack(upstream)).take(*OVERLAYS)
    said, above = Stack.of_overrides(overrides).take(*OVERLAYS)
    of_kinds, mini, large, _, published_lr = (a | b for a, b in zip(below, above, strict=True))
    where = _kind_of_recordings(kind, stack + said)
    upstream_kind = str((stack + said).get("upstream.kind"))
    named = ", ".join(map(str, files))
    stack = stack.plus(f"{named}: of_upstream_kind", of_kinds.get(upstream_kind, {}))
    protocol = str((stack + said).get("protocol", "auto"))
    if protocol == "auto":
        protocol = "published" if where == "official" else "mini"
        said = said.plus("where the recordings come from", {"protocol": protocol})
    if protocol == "mini":
        stack = stack.plus(f"{named}: mini", mini)
    rates = {name: float(rate) for name, rate in published_lr.items()}
    return Reading(kind, stack, said, where, rates, large)


def _kind_of_recordings(task: type[Task[Any]], stack: Stack) -> str:
    if stack.get("data.manifest"):
        return "manifest"
    default = {f.name: f.default for f in dataclasses.fields(PathsSection)}.get(task.corpus)
    return "mini" if stack.get(f"paths.{task.corpus}", default) == MINI else "official"


def upstream_stack(upstream: str) -> Stack:
    """What says which upstream: its YAML, or a file or folder.

    Raises:
        ConfigError: if it is none that is known.
    """
    file = config_file("upstream", f"{upstream}.yaml")
    if file.is_file():
        return Stack().plus_file(file).plus("UPSTREAM", {"upstream.name": upstream})
    path = Path(with_home(upstream))
    if path.exists():
        about = {"kind": kind_of(path), "source": str(path), "name": _name_of(path)}
    elif upstream.partition(":")[0] in kind_names() and upstream.partition(":")[2]:
        kind, _, source = upstream.partition(":")
        about = {"kind": kind, "source": source, "name": plain(source)}
    elif CLASS.fullmatch(upstream):
        about = {"kind": "python", "source": upstream, "name": plain(upstream.replace(":", "."))}
    elif HUB_ID.fullmatch(upstream) and path.suffix not in FILES:
        about = {"kind": hub_kind(upstream), "source": upstream, "name": upstream.split("/")[1]}
    else:
        known = ", ".join(sorted(config_names("upstream")))
        raise ConfigError(
            f"no upstream {upstream}: it is neither a file, a folder, a hub id (owner/name), a "
            f"class (module:Class) or a bundle (torchaudio:NAME) nor one of {known}"
        )
    return Stack().plus("UPSTREAM", {"upstream": about})


def _name_of(path: Path) -> str:
    """A name for results: of a run's folder for its checkpoints, of the file otherwise."""
    parts = path.resolve().parts
    if len(parts) > 3 and parts[-2] == "checkpoints":
        name = f"{parts[-4]}-{parts[-3]}" + ("" if path.stem == "last" else f"-{path.stem}")
    else:
        name = path.stem if path.is_file() else path.name
    return plain(name)


def plain(name: str) -> str:
    """A name with `_` for what no folder's name should hold.

    >>> plain("my $HOME file")
    'my__HOME_file'
    """
    return re.sub(r"[^\w.+-]", "_", name)
