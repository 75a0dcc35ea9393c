# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that a task is evaluated from: one learner each, with its encoder if that trained."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from wavlm_lightning.checkpoint_file import read_checkpoint, write_checkpoint
from wavlm_lightning.downstream.adapt.adapted import Adapted
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.policy import AdaptationConfig
from wavlm_lightning.recipes.run.callbacks import KeepBest
from wavlm_lightning.recipes.run.checkpoints import BEST, CHECKPOINTS
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.superb.settings import TaskSettings

TAKEN = "taken.ckpt"  # the last weights, or an average


def best_checkpoint(learner: Learner, folder: Path) -> Path:
    """Where a learner's best weights lie in the folder of a training."""
    return folder / learner.name / CHECKPOINTS / BEST


def evenly_kept(folder: Path, update: int | str = "*") -> Path:
    """Where a training keeps one of its evenly spaced checkpoints."""
    return folder / CHECKPOINTS / "evenly" / f"update{update}.ckpt"


def recently_kept(learner: Learner, folder: Path, update: int | str = "*") -> Path:
    """Where a training keeps a learner's weights of its last validations."""
    return folder / learner.name / CHECKPOINTS / "recent" / f"update{update}.ckpt"


def write_portable(
    path: Path, module: Adapted, learner: Learner, state: dict[str, Tensor] | None = None
) -> None:
    """Write what evaluates a learner again, with what its classes are.

    Args:
        path: The file.
        module: Of which it is a learner.
        learner: Which one.
        state: Weights; None for those that it has.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    task, head = learner.task, learner.head
    about = {"task": task.name, "head": type(head).__name__, "classes": list(task.classes)}
    state = module.portable_state(learner) if state is None else state
    write_checkpoint(path, {"state_dict": state, **about, **module.about})


def describe(path: Path, settings: TaskSettings, learner: Learner) -> None:
    """Add to a checkpoint what it takes to predict with it, without corpus and configuration.

    Args:
        path: As `write_portable` left it.
        settings: Of the training.
        learner: Whose weights it holds, with what its task chose on dev.
    """
    task = learner.task
    about = {
        "task": task.name,
        "config": asdict(task.config),
        "vocabulary": task.vocabulary(),
        "chosen": dict(task.chosen),
        "featurizer": asdict(settings.featurizer),
        "tuned": settings.tuned,
        "upstream": settings.values["upstream"],
    }
    write_checkpoint(path, {**read_checkpoint(path), "predictor": about})


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint."""
    state: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
    return state


class KeepBestLearner(KeepBest):
    """Keeps one of the learners that train side by side at its best validation."""

    def __init__(self, folder: Path, module: Adapted, learner: Learner):
        task = learner.task
        super().__init__(
            best_checkpoint(learner, folder), monitor=learner.log_key(task.monitor), mode=task.mode
        )
        self.module, self.learner = module, learner

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Nothing, once it is dropped: it is not validated either."""
        if self.learner.diverged is None:
            super().on_validation_end(trainer)

    def write(self, trainer: lightning.Trainer) -> None:
        """Write a file whole or not at all, in the first process alone."""
        if trainer.is_global_zero:
            write_portable(self.checkpoint, self.module, self.learner)


class KeepRecent(Callback):
    """Keeps a learner's weights at its last validations, for their average."""

    def __init__(self, folder: Path, module: Adapted, learner: Learner, *, count: int):
        self.folder, self.module, self.learner, self.count = folder, module, learner, count

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Write this one, and remove what is too old or of a later update than this."""
        if trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        # After a resume, files of updates that are not done yet again may lie here: they go.
        now = trainer.global_step
        write_portable(recently_kept(self.learner, self.folder, now), self.module, self.learner)
        kept = recent_updates(self.learner, self.folder)
        for update in [u for u in kept if u > now] + [u for u in kept if u <= now][: -self.count]:
            recently_kept(self.learner, self.folder, update).unlink()


def recent_updates(learner: Learner, folder: Path) -> list[int]:
    """Updates of which weights are kept, in their order."""
    pattern = recently_kept(learner, folder)
    found = pattern.parent.glob(pattern.name)
    return sorted(int(path.stem.removeprefix("update")) for path in found)


class KeepEvenly(Callback):
    """Keeps the weights of a run at `count` evenly spaced updates, the last one included."""

    def __init__(self, folder: Path, *, count: int, total_updates: int):
        self.folder = folder
        self.updates = {round(total_updates * (i + 1) / count) for i in range(count)}
        self._kept = 0  # all processes save together: what lies on disk must not decide it

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save once, after a complete update."""
        update = trainer.global_step
        # A batch of an accumulated update ends here too, with the number of the update before.
        if update in self.updates and update != self._kept:
            self._kept = update
            trainer.save_checkpoint(evenly_kept(self.folder, update), weights_only=True)


def take(
    module: Adapted,
    learner: Learner,
    folder: Path,
    adaptation: AdaptationConfig,
    processes: Processes,
) -> Path:
    """The checkpoint that a training leaves for its test and for a stage after it.

    Args:
        module: At the end of the training.
        learner: Whose weights.
        folder: Of the training.
        adaptation: Which weights to take.
        processes: All of them call this.
    """
    if adaptation.take == "best":
        return best_checkpoint(learner, folder)
    path = folder / learner.name / CHECKPOINTS / TAKEN
    if processes.first:
        state = None
        if adaptation.take == "average":
            kept = recent_updates(learner, folder)
            state = average([read_state(recently_kept(learner, folder, u)) for u in kept])
        write_portable(path, module, learner, state)
    processes.barrier()
    return path


def average(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of weights; what is no floating point is taken from the last.

    >>> average([{"a": torch.zeros(2)}, {"a": torch.ones(2)}])
    {'a': tensor([0.5000, 0.5000])}
    """
    last = states[-1]
    return {
        name: torch.stack([s[name].double() for s in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in last.items()
    }
