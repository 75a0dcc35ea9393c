# SPDX-License-Identifier: Apache-2.0
"""What watches a training run: progress lines, checkpoints on a signal."""

import math
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from wavlm_lightning.recipes.run.folder import point_to
from wavlm_lightning.recipes.run.signals import StopSignal, stop_signals

# Logged figure -> its printed name and format.
Figures = Mapping[str, tuple[str, str]]


class UpdateBar(Callback):
    """A bar over the updates of the whole training, for terminals."""

    def __init__(self, total_updates: int, figures: Figures):
        self.total_updates, self.figures = total_updates, figures
        self.bar: tqdm | None = None

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Draw the bar where a resumed run stands."""
        if trainer.is_global_zero:
            self.bar = tqdm(
                total=self.total_updates,
                initial=trainer.global_step,
                desc="updates",
                dynamic_ncols=True,
            )

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Move on after a complete update."""
        if self.bar is not None and trainer.global_step > self.bar.n:
            self.bar.set_postfix(_shown(trainer, self.figures), refresh=False)
            self.bar.update(trainer.global_step - self.bar.n)

    def on_validation_start(self, *_: Any) -> None:
        """Say why the bar stands still."""
        if self.bar is not None:
            self.bar.set_description("validating")

    def on_validation_end(self, *_: Any) -> None:
        """Back to training."""
        if self.bar is not None:
            self.bar.set_description("updates")

    def teardown(self, *_: Any, **__: Any) -> None:
        """Leave the bar on the screen as it is."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class ProgressLines(Callback):
    """A line every few seconds, for logs and pipes."""

    def __init__(self, total_updates: int, figures: Figures, *, every_seconds: float = 10.0):
        self.total_updates, self.figures, self.every = total_updates, figures, every_seconds
        self._last, self._start = 0.0, (0.0, 0)

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Start the clock."""
        self._start = (time.perf_counter(), trainer.global_step)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Print if it is time, and for the last update."""
        if not trainer.is_global_zero:
            return
        now, done = time.perf_counter(), trainer.global_step
        if done == self._start[1] or (now - self._last < self.every and done < self.total_updates):
            return
        self._last = now
        left = (self.total_updates - done) * (now - self._start[0]) / (done - self._start[1])
        figures = "  ".join(f"{k} {v}" for k, v in _shown(trainer, self.figures).items())
        print(
            f"update {done}/{self.total_updates}  {figures}  {left / 60:.1f} min left", flush=True
        )


def progress(total_updates: int, figures: Figures) -> Callback:
    """A bar on a terminal, lines elsewhere."""
    if sys.stderr.isatty():
        return UpdateBar(total_updates, figures)
    return ProgressLines(total_updates, figures)


def _shown(trainer: lightning.Trainer, figures: Figures) -> dict[str, str]:
    # What a module says of its last batch is newer than what it has logged.
    logged = {**trainer.callback_metrics, **getattr(trainer.lightning_module, "latest", {})}
    return {
        name: form.format(float(logged[key]))
        for key, (name, form) in figures.items()
        if key in logged
    }


class KeepBest(Callback):
    """Keeps the weights of the best validation; the earlier of two that are equal."""

    def __init__(self, checkpoint: Path, *, monitor: str, mode: str):
        self.checkpoint, self.monitor, self.mode = checkpoint, monitor, mode
        self.best: dict[str, float] = {}

    @property
    def state_key(self) -> str:
        """Several may watch one training."""
        return f"{type(self).__name__} {self.monitor}"

    def write(self, trainer: lightning.Trainer) -> None:
        """Keep all that is trained; called in all processes."""
        trainer.save_checkpoint(self.checkpoint, weights_only=True)

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Compare, after a validation within training."""
        if trainer.state.fn != "fit":
            return
        value = float(trainer.callback_metrics[self.monitor])
        better = not self.best or (
            value < self.best["value"] if self.mode == "min" else value > self.best["value"]
        )
        if better and math.isfinite(value):
            self.best = {"value": value, "update": float(trainer.global_step)}
            self.write(trainer)

    def state_dict(self) -> dict[str, float]:
        """Kept in checkpoints, for a resume."""
        return self.best

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on from a checkpoint."""
        self.best = dict(state_dict)


class SaveAndStop(Callback):
    """Writes `last.ckpt`: every so many updates, and when the run is told to stop.

    On SIGTERM, SIGHUP or Ctrl-C the update is finished, saved, and training ends; a second one
    kills. Saved is at the start of the batch after: by then the loggers have the update's row and
    that of its validation, and both are on the disk before the checkpoint is. Nothing is saved
    between the batches of one update, whose gradients a checkpoint does not hold. So a run that
    goes on from here has the weights, the figures and the rows of one that never stopped.
    """

    def __init__(self, checkpoint: Path, *, every_updates: int):
        self.checkpoint, self.every = checkpoint, every_updates
        self.received = 0
        self._updates = 0
        self._due = self._stopping = self._validated = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Take the signals, after Lightning has taken them."""
        self._updates = trainer.global_step
        for number in stop_signals():
            self._handlers[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received = number
        signal.signal(number, signal.SIG_DFL)

    def _told(self, trainer: lightning.Trainer) -> bool:
        """True in all processes if any of them got a signal."""
        return trainer.strategy.reduce_boolean_decision(bool(self.received), all=False)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Once an update is complete, see whether it is time or the run must stop."""
        if trainer.global_step == self._updates:
            return
        self._updates = trainer.global_step
        self._stopping = self._told(trainer)
        self._due = self._due or self._stopping or self._updates % self.every == 0

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """What the validation found is worth keeping."""
        if trainer.state.fn == "fit":
            self._due = self._validated = True

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save what is complete before the next batch begins."""
        if self._due:
            self._save(trainer)
        self._validated = False
        if self._stopping:
            raise StopSignal(f"stopped after update {self._updates}, saved in {self.checkpoint}")

    def on_train_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """A signal during the last update or a validation stops the run too."""
        self._validated = False  # a resume has nothing left to train, and passes no batch
        self._save(trainer)
        if self._told(trainer):
            raise StopSignal(f"stopped after update {self._updates}, saved in {self.checkpoint}")

    def _save(self, trainer: lightning.Trainer) -> None:
        self._due = False
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.checkpoint)
        if trainer.is_global_zero:
            point_to(self.checkpoint)

    def on_save_checkpoint(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        """Let Lightning 2.6 count as if it had never stopped.

        It counts a batch as ready when it announces it, and announces it again after a resume. And
        where the update before was validated, it passes once without a batch, to skip that
        validation, and counts this as a step of the loggers.
        """
        loop = checkpoint["loops"]["fit_loop"]
        for counts in loop["epoch_loop.batch_progress"].values():
            if isinstance(counts, dict):
                counts["ready"] = counts["completed"]
        if self._validated:
            loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1

    def teardown(self, *_: Any, **__: Any) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
