# SPDX-License-Identifier: Apache-2.0
"""Sections of configuration that pre-training and the tasks share."""

from dataclasses import dataclass, field
from typing import Any, Literal

from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.config_stack import Stack
from wavlm_lightning.fields import MOST, Checked, number, whole
from wavlm_lightning.names import safe_name


def plain_name(key: str, name: str) -> None:
    """Refuse a name that is not that of one folder.

    Raises:
        ConfigError: naming the key.
    """
    if safe_name(name) != name:
        raise ConfigError(
            f"{key} must be a plain name, of letters, digits and any of _ . + - (got {name!r})"
        )


@dataclass(frozen=True, kw_only=True)
class WandbSection:
    """Weights & Biases.

    Args:
        mode: "offline" writes to the run folder, without network and account.
        project: where runs are collected.
        entity: user or team; W&B's default if not said.
        group: runs that are shown together; by default all trainings of a run, such as the
            iterations of a pre-training or the folds of emotion recognition.
        job_type: kind of run within its group; by default the training, such as iteration1.
        tags: words to find runs by.
        notes: text about the run.
        artifacts: upload the checkpoint of the best validation as an artifact, and note which
            artifact a training started from.
    """

    mode: Literal["disabled", "offline", "online"] = "disabled"
    project: str = "wavlm_lightning"
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    artifacts: bool = True


@dataclass(frozen=True, kw_only=True)
class TrainerSection(Checked):
    """Arguments of Lightning's Trainer, by name and number alone: configuration loads no classes.

    Args:
        accelerator: cpu, gpu, or auto for a GPU where there is one.
        devices: Processes on this machine; auto for all GPUs.
        strategy: How several processes share the work; auto is ddp.
        precision: bf16-mixed, 32-true, ...; None for bf16 where the device computes in it.
        tf32: Let a GPU multiply float32 matrices and convolve in TF32, with 10 bits of mantissa;
            None for torch's own choice, which is TF32 in convolutions and LSTMs alone.
        deterministic: Use deterministic algorithms alone, or warn where there is none.
        benchmark: Let cuDNN try its algorithms first.
        detect_anomaly: Find the operation whose gradient is not finite; slow.
        profiler: Write how long each step of a run takes.
        sync_batchnorm: Share the statistics of batch norms between processes.
        log_every_n_steps: Updates between rows of the logs.
        limit_val_batches: Batches, or share of them, of a validation.
        limit_test_batches: The same of a test.
        fast_dev_run: So many updates, and as many batches of each evaluation, to see whether a
            configuration runs to its end; true for one. Its run and results lie apart.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    strategy: str = "auto"
    precision: str | int | None = None
    tf32: bool | None = None
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    detect_anomaly: bool = False
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    sync_batchnorm: bool = False
    log_every_n_steps: int | None = whole(1, default=None)
    limit_val_batches: int | float | None = number(0, MOST, default=None)
    limit_test_batches: int | float | None = number(0, MOST, default=None)
    fast_dev_run: int | bool = whole(0, default=False)


_LENGTH = "set optim.total_updates"
_BATCHES = (
    "set data.audio_seconds_per_update in pre-training, data.batches_per_update or "
    "data.seconds_per_update in a task"
)
_NODES = (
    "start the program on each machine with torchrun --nnodes=N -m "
    "wavlm_lightning.recipes.pretrain ..."
)
_REPEAT = "set data.repeat_updates=N to train on the first N updates over and over"
# Other arguments of Lightning's Trainer, and which key of ours does it.
INSTEAD = {
    "accumulate_grad_batches": _BATCHES,
    "barebones": "run without it: what is logged costs nothing that can be measured",
    "callbacks": "keys of section run say when a run validates and saves",
    "check_val_every_n_epoch": "set run.validate_updates",
    "default_root_dir": "set run.dir",
    "enable_autolog_hparams": "loggers get the whole configuration",
    "enable_checkpointing": "set run.checkpoint_updates; a run without checkpoints cannot resume",
    "enable_model_summary": "the first lines of a run say how large the model is",
    "enable_progress_bar": "a terminal gets a bar, a file gets lines",
    "gradient_clip_algorithm": "gradients are clipped by their norm: set optim.clip",
    "gradient_clip_val": "set optim.clip",
    "inference_mode": "evaluation always uses it",
    "limit_predict_batches": "set trainer.limit_test_batches",
    "limit_train_batches": _LENGTH,
    "logger": "set wandb.mode or tensorboard",
    "max_epochs": _LENGTH,
    "max_steps": _LENGTH,
    "max_time": "stop the run with SIGTERM, for example by timeout: it saves, and can resume",
    "min_epochs": _LENGTH,
    "min_steps": _LENGTH,
    "model_registry": "export pushes a model to a hub",
    "num_nodes": _NODES,
    "num_sanity_val_steps": "set trainer.fast_dev_run=1 to try a validation before a long run",
    "overfit_batches": _REPEAT,
    "plugins": "set trainer.precision or trainer.strategy",
    "reload_dataloaders_every_n_epochs": "an epoch has no meaning here: updates are planned",
    "use_distributed_sampler": "every process takes its share of one plan, which does not depend "
    "on how many there are",
    "val_check_interval": "set run.validate_updates",
}


def add_trainer(parser: Parser) -> None:
    """Add section `trainer`, and hints for the arguments of Lightning's that it does without."""
    parser.add_section(TrainerSection, "trainer", default=TrainerSection())
    parser.add_hints("trainer", INSTEAD)


def fast_dev_run(stack: Stack, *, results: bool = False) -> Stack:
    """The configuration cut to a few updates, if `trainer.fast_dev_run` says so.

    Args:
        stack: All that is said.
        results: The program has a folder of results, `run.results`.
    """
    said = str(stack.get("trainer.fast_dev_run", 0)).lower()
    count = {"true": "1", "false": "0"}.get(said, said)
    if not count.isdecimal() or int(count) == 0:
        return stack  # what makes no sense is refused by its type
    updates = int(count)
    folder = f"{stack.get('run.dir') or 'runs'}/fast_dev_run"
    few: dict[str, Any] = dict.fromkeys(("optim.total_updates", "run.validate_updates"), updates)
    few |= dict.fromkeys(("trainer.limit_val_batches", "trainer.limit_test_batches"), updates)
    few |= dict.fromkeys(("optim.warmup_updates", "optim.head_updates"), 0)
    places = {"run.dir": folder} | ({"run.results": f"{folder}/results"} if results else {})
    return stack.plus("trainer.fast_dev_run", few | places)
