# SPDX-License-Identifier: Apache-2.0
"""What watches a training run: progress for people, checkpoints on a signal."""

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm


class StopSignal(Exception):
    """Training was asked to stop, and its checkpoint is written."""


class UpdateBar(Callback):
    """A bar over the updates of the whole training, for terminals."""

    def __init__(self, total_updates: int):
        self.total_updates = total_updates
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
            self.bar.set_postfix(_shown(trainer), refresh=False)
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

    def __init__(self, total_updates: int, *, every_seconds: float = 10.0):
        self.total_updates, self.every = total_updates, every_seconds
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
        figures = "  ".join(f"{k} {v}" for k, v in _shown(trainer).items())
        print(
            f"update {done}/{self.total_updates}  {figures}  {left / 60:.1f} min left", flush=True
        )


def progress(total_updates: int) -> Callback:
    """A bar on a terminal, lines elsewhere."""
    if sys.stderr.isatty():
        return UpdateBar(total_updates)
    return ProgressLines(total_updates)


def _shown(trainer: lightning.Trainer) -> dict[str, str]:
    figures = trainer.callback_metrics
    shown = {}
    for key, name, form in (
        ("train/loss", "loss", "{:.3f}"),
        ("train/accuracy_masked", "accuracy", "{:.3f}"),
        ("dev/accuracy_masked", "dev", "{:.3f}"),
        ("dev_mixed/accuracy_masked", "dev mixed", "{:.3f}"),
        ("train/hours_per_hour", "hours/hour", "{:.0f}"),
    ):
        if key in figures:
            shown[name] = form.format(float(figures[key]))
    return shown


class SaveAndStop(Callback):
    """Writes `last.ckpt`: every so many updates, and when the run is told to stop.

    On SIGTERM or Ctrl-C the update is finished, saved, and training ends; a second one kills.
    Nothing is saved between the batches of one update, whose gradients a checkpoint does not hold:
    so a run that goes on from here equals one that never stopped.
    """

    def __init__(self, checkpoint: Path, *, every_updates: int):
        self.checkpoint, self.every = checkpoint, every_updates
        self.received = 0
        self._updates = 0
        self._stopping = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Take the signals, after Lightning has taken them."""
        self._updates = trainer.global_step
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received = number
        signal.signal(number, signal.SIG_DFL)

    def _told(self, trainer: lightning.Trainer) -> bool:
        """True in all processes if any of them got a signal."""
        return trainer.strategy.reduce_boolean_decision(bool(self.received), all=False)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save once an update is complete, if it is time or the run must stop."""
        if trainer.global_step == self._updates:
            return
        self._updates = trainer.global_step
        self._stopping = self._told(trainer)
        if self._stopping or self._updates % self.every == 0:
            trainer.save_checkpoint(self.checkpoint)

    def on_train_batch_start(self, *_: Any) -> None:
        """End here, not in the hook above: by now the loggers have the update's figures."""
        if self._stopping:
            raise StopSignal(f"stopped after update {self._updates}, saved in {self.checkpoint}")

    def on_train_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """A signal during the last update or a validation stops the run too."""
        trainer.save_checkpoint(self.checkpoint)
        if self._told(trainer):
            raise StopSignal(f"stopped after update {self._updates}, saved in {self.checkpoint}")

    def teardown(self, *_: Any, **__: Any) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
