# SPDX-License-Identifier: Apache-2.0
"""The configuration of a fine-tuning: that of the task, and how the encoder trains.

In order, later ones win: configs/superb/TASK.yaml, configs/finetune/TASK.yaml or, where there is
none, configs/finetune/any.yaml, configs/paths.yaml, the upstream's YAML, the sections `mini` of
these files where that protocol is in force, files that are named, their sections `large` if the
encoder is of that kind, the command line. Each stage is the whole with its differences.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.config_stack import Layer, Stack
from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.adapt.policy import AdaptationConfig, InputMasking
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.model.checkpoint import read_config
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.earlier_names import KEYS
from wavlm_lightning.recipes.run.initial_weights import check_shape, init_path
from wavlm_lightning.recipes.run.mini_model import MINI_CHECKPOINT, MINI_NAME, is_missing
from wavlm_lightning.recipes.superb.settings import (
    Reading,
    RunSection,
    TaskSettings,
    build_parser,
    plain,
    read_files,
    task_and_upstream,
)
from wavlm_lightning.shipped import command, config_file

ANY = "any.yaml"  # for tasks without a file of their own
# Sections and keys that a run has once, whatever its stages are.
OF_A_RUN = (
    *("upstream", "paths", "cache", "wandb", "tensorboard", "protocol", "stages"),
    *("data.manifest", "data.layout", "data.check", "data.bad_files"),
    *("run.dir", "run.results", "run.resume", "run.threads"),
    *("trainer.accelerator", "trainer.devices", "trainer.tf32"),
)


@dataclass(frozen=True, kw_only=True)
class FinetuneRunSection(RunSection):
    """Section `run` of fine-tuning, whose runs lie in a folder of their own."""

    dir: str = "runs/finetune"


def finetune_parser(reading: Reading, model: WavLMConfig) -> Parser:
    """The parser of a task whose encoder trains, from this configuration."""
    parser = build_parser(reading.task, run=FinetuneRunSection)
    parser.add_section(WavLMConfig, "model", default=model)
    parser.add_hints("model", {old: f"set model.{new}" for old, new in KEYS.items()})
    parser.add_section(AdaptationConfig, "adaptation", default=AdaptationConfig())
    parser.add_section(InputMasking, "masking", default=InputMasking())
    parser.add_argument("--compile", type=bool, default=False, help="torch.compile the encoder")
    parser.add_argument(
        "--recompute", type=bool, default=False, help="run blocks twice to keep less"
    )
    parser.add_argument(
        "--stages",
        type=list[dict[str, Any]],
        default=[],
        help="trainings one after another: the settings in which each differs",
    )
    return parser


def keys_of(argv: list[str]) -> tuple[Parser, Stack]:
    """All keys of a fine-tuning, and what files and the command line say of them."""
    task, upstream, overrides = task_and_upstream(argv)
    reading, start = _read(task, upstream, overrides, mini=mini_is_missing(upstream))
    return finetune_parser(reading, start), reading.files + reading.said


def mini_is_missing(upstream: str) -> bool:
    """Whether an upstream is the mini model, and that is not trained yet: its shape is known."""
    named = upstream in (MINI_NAME, str(MINI_CHECKPOINT))
    return named and is_missing(str(MINI_CHECKPOINT))


def read_stages(task: str, upstream: str, overrides: list[str]) -> list[TaskSettings]:
    """Settings of a fine-tuning: one for each of its stages, in their order.

    Args:
        task: A name of `downstream.tasks`.
        upstream: A name in configs/upstream, or a checkpoint or folder of a WavLM.
        overrides: Arguments of the command line.

    Raises:
        ConfigError: naming the key, what it must be and what it is.
        FileNotFoundError: if there is no encoder.
        ValueError: if it cannot be read.
    """
    reading, start = _read(task, upstream, overrides, mini=mini_is_missing(upstream))
    size = Layer("the encoder", {"model.size": start.size})
    whole = _resolved(reading, start, size)
    if not whole.stages:
        return [whole]
    found = []
    for number, own in enumerate(whole.stages, start=1):
        name = f"stages, item {number}"
        try:
            _check_differences(own)
            found.append(_resolved(reading, start, size, Layer(name, {**own, "stages": []})))
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
    _check_order(found)
    name = found[-1].upstream.name
    return [replace(stage, upstream=replace(stage.upstream, name=name)) for stage in found]


def _read(
    task: str, upstream: str, overrides: list[str], *, mini: bool
) -> tuple[Reading, WavLMConfig]:
    """What all stages have in common, and the encoder that training starts from."""
    reading = read_files(task, upstream, overrides, _files(task))
    if reading.said.get("init"):
        raise ConfigError(
            f"init is the second word now: {command()} finetune UPSTREAM={reading.said.get('init')}"
        )
    start = WavLMConfig.mini() if mini else _encoder(reading)
    files, said = Stack().plus("the encoder", {"model": start.to_dict()}), reading.said
    if start.norm_first:
        said = said.files().plus("large, of the named files", reading.large) + said.overrides()
    return reading._replace(files=files + reading.files, said=said), start


def _check_differences(own: dict[str, Any]) -> None:
    """Refuse a difference that would not reach its stage: these are said once for a run."""
    for _, key, _ in Stack().plus("", own).flattened(set()):
        if any(key == name or key.startswith(f"{name}.") for name in OF_A_RUN):
            raise ConfigError(f"{key} must be the same in all stages: set it outside of stages")


def _check_order(stages: list[TaskSettings]) -> None:
    """Refuse stages that cannot take what the one before leaves."""
    tuned = [stage.tuned for stage in stages]
    if tuned != sorted(tuned):
        raise ConfigError(
            "stages: a frozen encoder must come before those that train it, not after them"
        )
    if len({stage.featurizer.layer is None for stage in stages}) > 1:
        raise ConfigError(
            "stages: featurizer.layer must be null in all stages or in none, because a weighted "
            "sum has weights to hand on"
        )


def _files(task: str) -> list[Path]:
    kind = load_task(task)
    if not issubclass(kind, TrainedTask):
        raise ConfigError(f"{task} trains nothing: there is no encoder to train with it")
    own = config_file("finetune", f"{task}.yaml")
    files = [config_file("superb", f"{task}.yaml")] if kind.suite == "superb" else []
    return [*files, own if own.is_file() else config_file("finetune", ANY)]


def _resolved(reading: Reading, start: WavLMConfig, *later: Layer) -> TaskSettings:
    settings = reading.resolve(finetune_parser(reading, start), *later)
    assert settings.model is not None
    check_shape(settings.model, start)
    if settings.heads.lr is not None or settings.heads.seed is not None:
        raise ConfigError(
            "heads.lr and heads.seed train heads side by side on one frozen upstream: set optim.lr "
            "and seed, and run each by itself"
        )
    settings.masking.check(start.dim)
    name = f"{settings.upstream.name}+{_label(reading, settings)}"
    upstream = replace(settings.upstream, name=name)
    return replace(settings, upstream=upstream)


def _label(reading: Reading, settings: TaskSettings) -> str:
    """What stands behind the upstream's name in results: the named file, or how it is adapted."""
    files = reading.said.files().layers
    return plain(Path(files[-1].source).stem) if files else settings.adaptation.encoder


def _encoder(reading: Reading) -> WavLMConfig:
    """The configuration of the encoder that training starts from."""
    stack: Stack = reading.files + reading.said
    kind, source = stack.get("upstream.kind"), stack.get("upstream.source")
    if kind == "random":
        return WavLMConfig.preset(str(stack.get("upstream.size", "mini")))
    if kind != "wavlm":
        raise ConfigError(f"upstream.kind must be wavlm or random to train it (got {kind})")
    if not source:
        raise ConfigError("upstream.source is not set: the checkpoint or folder of a WavLM")
    download = str(stack.get("upstream.download", False)).lower() == "true"
    return read_config(init_path(str(source), download=download))
