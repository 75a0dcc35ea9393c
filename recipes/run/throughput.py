# SPDX-License-Identifier: Apache-2.0
"""How fast a run is: hours of audio an hour, and what share of the machine's best that is."""

import time
from collections.abc import Callable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.runtime import threads
from wavlm_lightning.throughput import matrix_rate

HOURS, SHARE = "train/hours_per_hour", "train/mfu"
SMOOTHED = 0.95  # share of the figure before


class Throughput(Callback):
    """Logs both at every update; validation and saving do not count, loading does.

    Args:
        operations: of one utterance by its samples, all of a training step; None where the model
            is not run or not known.
        bf16: whether the model computes in it; None for what the trainer says.
        num_threads: that the model runs with, 0 for those of the run.
    """

    def __init__(
        self,
        operations: Callable[[int], float] | None,
        *,
        bf16: bool | None = None,
        num_threads: int = 0,
    ):
        self.operations, self.bf16, self.num_threads = operations, bf16, num_threads
        self.rate = 0.0
        self._figures: dict[str, float] = {}
        self._reset()

    def _reset(self) -> None:
        self._clock, self._samples, self._operations = time.perf_counter(), 0, 0.0

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Measure what the device can do, in the format that the run computes in."""
        if self.operations is not None:
            bf16 = self.bf16
            if bf16 is None:
                bf16 = str(trainer.precision).startswith("bf16")
            dtype = torch.bfloat16 if bf16 else torch.float32
            with threads(self.num_threads):
                self.rate = matrix_rate(trainer.strategy.root_device.type, dtype)
        self._update = trainer.global_step
        self._reset()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count a batch; log after the last one of an update."""
        lengths = batch.lengths.tolist()
        self._samples += sum(lengths)
        if self.operations is not None:
            self._operations += sum(self.operations(length) for length in lengths)
        if trainer.global_step == self._update:
            return
        self._update = trainer.global_step
        seconds = time.perf_counter() - self._clock
        self._smooth(HOURS, trainer.world_size * self._samples / SAMPLE_RATE / seconds)
        if self.operations is not None:
            self._smooth(SHARE, self._operations / seconds / self.rate)
        module.log_dict(self._figures)
        self._reset()

    def _smooth(self, name: str, value: float) -> None:
        before = self._figures.get(name, value)
        self._figures[name] = SMOOTHED * before + (1 - SMOOTHED) * value

    def on_validation_end(self, *_: Any) -> None:
        """What it took is no training."""
        self._reset()
