# SPDX-License-Identifier: Apache-2.0
"""How utterances become batches and how they are trained on: what a configuration may say.

Apart from the classes that do it, which import Lightning: a program reads its configuration, and
says what is wrong with it, before it waits for that.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wavlm_lightning.fields import Checked, number, whole
from wavlm_lightning.pretrain.batches import crop_grid
from wavlm_lightning.training import Schedule


@dataclass(frozen=True, kw_only=True)
class DataConfig(Checked):
    """How utterances become batches.

    Args:
        min_samples: shorter utterances are dropped and counted.
        max_samples: longest crop.
        seconds_per_batch: most seconds of audio in one batch of one process.
        audio_seconds_per_update: seconds of audio behind one update, all processes together;
            the number of batches that are accumulated follows from it.
        num_workers: processes that load, for each training process.
        grid_crops: training crops have one of about 40 lengths, multiples of eight frames, which a
            compiler meets within minutes; costs about 3 % of the audio, which the start says.
        repeat_updates: train on the first so many updates over and over, to see whether they can be
            learned by heart; None for all of the recordings.
        snap_crops: crops start at whole frames, so that labels do not jitter by up to half of one.
    """

    min_samples: int = whole(400)
    max_samples: int = whole(400)
    seconds_per_batch: float = number(0, 10**6, above=True)
    audio_seconds_per_update: float = number(0, 10**9, above=True)
    num_workers: int = whole(0, 1024, default=2)
    grid_crops: bool = False
    snap_crops: bool = False
    repeat_updates: int | None = whole(1, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_samples > self.max_samples:
            raise ValueError(
                f"data.min_samples={self.min_samples} is above data.max_samples={self.max_samples}"
            )

    @property
    def grid(self) -> NDArray[np.int64] | None:
        """Lengths that crops may have; None: any."""
        return crop_grid(self.min_samples, self.max_samples) if self.grid_crops else None

    def batches_per_update(self, world: int) -> int:
        """Batches behind one update, a multiple of the number of processes.

        >>> DataConfig(min_samples=32_000, max_samples=250_000, seconds_per_batch=87.5,
        ...     audio_seconds_per_update=2800).batches_per_update(world=32)
        32
        """
        wanted = self.audio_seconds_per_update / self.seconds_per_batch
        return max(1, math.ceil(round(wanted, 6) / world)) * world


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Checked):
    """AdamW and its schedule.

    Args:
        lr: peak learning rate; with 0 nothing is learned.
        betas: decay of Adam's two averages.
        eps: Adam's epsilon.
        weight_decay: decoupled, on every parameter.
        warmup_updates: the rate rises from zero over these.
        total_updates: of the training; a linear schedule falls to zero at the last one.
        schedule: how the rate goes.
        clip: largest L2 norm of the whole gradient, 0 for no clipping.
        head_updates: over these first updates the prediction head is trained alone; for an encoder
            that has learned elsewhere. With as many as there are it never learns.
    """

    lr: float = number(0, 1000)
    betas: tuple[float, float] = number(0, 1, below=True)
    eps: float = number(0, 1, above=True)
    weight_decay: float = number(0, 1000)
    warmup_updates: int = whole(0)
    total_updates: int = whole(1)
    clip: float = number(0, 10**9)
    head_updates: int = whole(0, default=0)
    schedule: Schedule = field(default_factory=lambda: Schedule(name="linear"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_updates > self.total_updates:
            raise ValueError(
                f"optim.warmup_updates={self.warmup_updates} is above optim.total_updates="
                f"{self.total_updates}"
            )
