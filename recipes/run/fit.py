# SPDX-License-Identifier: Apache-2.0
"""One training from the latest checkpoint of its folder to its end, whatever is trained."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import lightning
from lightning.pytorch.callbacks import Callback

from wavlm_lightning.files import read_json, write_text
from wavlm_lightning.recipes.run.artifacts import (
    keep_best_in_summary,
    upload_checkpoints,
    use_checkpoints,
)
from wavlm_lightning.recipes.run.callbacks import Figures, KeepBest, SaveAndStop, progress
from wavlm_lightning.recipes.run.checkpoints import CHECKPOINTS, LAST, to_resume
from wavlm_lightning.recipes.run.loggers import finishing, loggers_of
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.run.program import RunSettings
from wavlm_lightning.recipes.run.sections import TrainerSection
from wavlm_lightning.recipes.run.throughput import Throughput
from wavlm_lightning.recipes.run.trainer import Pace, build_trainer

T = TypeVar("T")
DONE = "metrics.json"  # in the folder of a training that is finished: what it left


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, and what watches it.

    Args:
        module: What is trained.
        data: What on.
        pace: How long, and what happens when.
        trainer: Devices, with a precision.
        throughput: How fast the device could be.
        figures: What the progress line shows.
        keep: Callbacks that keep checkpoints.
        sources: Checkpoints that it starts from, or takes labels or features from.
        begin: Gives the module its first weights; called unless a checkpoint is resumed.
        about: Lines on what is about to be trained, given the Trainer and whether it is resumed.
    """

    module: lightning.LightningModule
    data: lightning.LightningDataModule
    pace: Pace
    trainer: TrainerSection
    throughput: Throughput
    figures: Figures
    keep: list[Callback] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)
    begin: Callable[[], None] = lambda: None
    about: Callable[[lightning.Trainer, bool], list[str]] = lambda *_: []


def fit(
    training: Training,
    settings: RunSettings,
    folder: Path,
    processes: Processes,
    *,
    finish: Callable[[lightning.Trainer], T],
) -> T:
    """Train in `folder`, or go on there, and finish while the loggers are still open.

    Args:
        training: What is trained.
        settings: Of the run.
        folder: Of the training.
        processes: All of them call this.
        finish: Evaluates what was trained; its value is returned.

    Raises:
        StopSignal: if it was told to stop; what is done is saved.
    """
    resume = to_resume(folder, processes)
    trainer = build_trainer(
        training.trainer,
        folder,
        processes,
        pace=training.pace,
        loggers=loggers_of(settings, folder),
        callbacks=callbacks(training, folder),
    )
    # A resumed training has its weights from the checkpoint: first weights would be overwritten.
    if resume is None:
        training.begin()
    if processes.first:
        for line in training.about(trainer, resume is not None):
            print(line, flush=True)
    kept = [callback for callback in training.keep if isinstance(callback, KeepBest)]
    with finishing(trainer.loggers):
        keep_best_in_summary(trainer.loggers, kept)
        if settings.wandb.artifacts:
            use_checkpoints(trainer.loggers, training.sources)
        trainer.fit(
            training.module,
            datamodule=training.data,
            ckpt_path=None if resume is None else str(resume),
            # Tensors and plain values: no code in a checkpoint is run.
            weights_only=True,
        )
        for logger in trainer.loggers:
            logger.save()
        left = finish(trainer)
        if settings.wandb.artifacts and processes.first:
            about = {"updates": trainer.global_step, "folder": folder.as_posix()}
            upload_checkpoints(trainer.loggers, folder, kept, about)
        return left


def callbacks(training: Training, folder: Path) -> list[Callback]:
    """Speed, progress and checkpoints; the latest one is saved after the others are kept."""
    return [
        training.throughput,
        progress(training.pace.total_updates, training.figures),
        *training.keep,
        SaveAndStop(folder / CHECKPOINTS / LAST, every_updates=training.pace.checkpoint_updates),
    ]


def once(folder: Path, processes: Processes, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` left in `folder`; it is done only if it was not finished there before.

    Args:
        folder: Of the training.
        processes: All of them call this.
        work: Returns what JSON can hold.
    """
    # Written last: a run that was killed in its evaluation does that again, and no training.
    done = folder / DONE
    if not done.exists():
        left = work()
        if processes.first:
            write_text(done, json.dumps(left, indent=2) + "\n")
        processes.barrier()
    found: dict[str, Any] = read_json(done)
    return found
