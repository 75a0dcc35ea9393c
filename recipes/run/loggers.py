# SPDX-License-Identifier: Apache-2.0
"""Where figures go: CSV always; W&B and TensorBoard beside it, which a run can do without."""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from wavlm_lightning.config import flat, one_line
from wavlm_lightning.recipes.run.folder import run_folder
from wavlm_lightning.recipes.run.program import RunSettings
from wavlm_lightning.recipes.run.sections import WandbSection
from wavlm_lightning.recipes.run.signals import STOPPED, StopSignal

FLUSH_ROWS = 10  # of the CSV file; a checkpoint flushes too


def _dropping(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method of a logger that is dropped, with one warning, when it fails for the first time.

    Its service may be killed, its disk may be full: the training and the CSV files go on.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **keywords: Any) -> Any:
        if self.dropped:
            return None
        try:
            return method(self, *args, **keywords)
        except Exception as error:
            drop(self, error)
            return None

    return call


class SteadyWandbLogger(WandbLogger):
    """W&B, as long as it works."""

    dropped = False
    log_metrics = _dropping(WandbLogger.log_metrics)
    log_hyperparams = _dropping(WandbLogger.log_hyperparams)
    save = _dropping(WandbLogger.save)
    finalize = _dropping(WandbLogger.finalize)
    after_save_checkpoint = _dropping(WandbLogger.after_save_checkpoint)


class SteadyTensorBoardLogger(TensorBoardLogger):
    """TensorBoard, as long as it works."""

    dropped = False
    log_metrics = _dropping(TensorBoardLogger.log_metrics)
    log_hyperparams = _dropping(TensorBoardLogger.log_hyperparams)
    save = _dropping(TensorBoardLogger.save)
    finalize = _dropping(TensorBoardLogger.finalize)


def drop(logger: Any, error: Exception) -> None:
    """Use a logger no more, and say so once."""
    logger.dropped = True
    name = "W&B" if isinstance(logger, WandbLogger) else "TensorBoard"
    why = one_line(error) or type(error).__name__
    print(
        f"warning: {name} failed ({why}) and is left out from here on; the run and its CSV files "
        "go on",
        file=sys.stderr,
        flush=True,
    )
    _silence_farewell()


def _silence_farewell() -> None:
    """W&B says goodbye to its service at exit; a traceback of that would look like the run's."""
    before = sys.unraisablehook

    def hook(event: Any) -> None:
        if "teardown_atexit" not in repr(event.object) + str(event.err_msg):
            before(event)

    sys.unraisablehook = hook


def working_wandb(loggers: Sequence[Logger]) -> SteadyWandbLogger | None:
    """W&B's logger, if it was asked for and works."""
    for logger in loggers:
        if isinstance(logger, SteadyWandbLogger) and not logger.dropped:
            return logger
    return None


def with_wandb(loggers: Sequence[Logger], action: Callable[[Any], Any]) -> None:
    """Do something with the W&B run, if there is one that works."""
    logger = working_wandb(loggers)
    if logger is None:
        return
    try:
        action(logger.experiment)
    except Exception as error:
        drop(logger, error)


def build_loggers(
    folder: Path, *, root: str, wandb: WandbSection, tensorboard: bool, values: dict[str, Any]
) -> list[Logger]:
    """CSV always; W&B and TensorBoard when asked for.

    Args:
        folder: of the run.
        root: folder of all runs; what follows it names the run.
        wandb: mode and project.
        tensorboard: log there too.
        values: the resolved configuration.
    """
    name = folder.relative_to(root).as_posix()  # mini/<time>, mini/<time>/iteration1
    run = run_folder(folder)
    training = folder.relative_to(run).as_posix()  # iteration1, fold3, or . for the run's own
    loggers: list[Logger] = [CSVLogger(folder, name="logs", flush_logs_every_n_steps=FLUSH_ROWS)]
    if wandb.mode != "disabled":
        os.environ.setdefault("WANDB_SILENT", "true")
        loggers.append(
            SteadyWandbLogger(
                project=wandb.project,
                name=name,
                id=re.sub(r"[^\w.-]", "-", name),  # the same after a resume
                resume="allow",
                save_dir=folder,
                offline=wandb.mode == "offline",
                config=flat(values),
                entity=wandb.entity,
                group=wandb.group or run.relative_to(root).as_posix(),
                job_type=wandb.job_type or ("training" if training == "." else training),
                tags=list(wandb.tags),
                notes=wandb.notes,
            )
        )
    if tensorboard:
        loggers.append(SteadyTensorBoardLogger(folder, name="tensorboard"))
    return loggers


def loggers_of(settings: RunSettings, folder: Path) -> list[Logger]:
    """The loggers that a configuration asks for, of a training in `folder`."""
    return build_loggers(
        folder,
        root=settings.run.dir,
        wandb=settings.wandb,
        tensorboard=settings.tensorboard,
        values=settings.values,
    )


@contextmanager
def finishing(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close the W&B run at the end of the block, as stopped or failed if the block is.

    The next iteration gets a run of its own.
    """
    status = 1
    try:
        yield
        status = 0
    except (StopSignal, KeyboardInterrupt):
        status = STOPPED
        raise
    finally:
        logger = working_wandb(loggers)
        if logger is not None:
            _finish(logger, status)


def _finish(logger: SteadyWandbLogger, status: int) -> None:
    import wandb

    try:
        wandb.finish(exit_code=status)
    except Exception as error:
        drop(logger, error)
