# SPDX-License-Identifier: Apache-2.0
"""How examples become batches and how heads and encoders are trained: what a configuration may say.

Apart from the classes that do it, which import Lightning: a program reads its configuration, and
says what is wrong with it, before it waits for that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from downstream.schedule import TriStage
from wavlm_lightning.fields import Checked, number, seed, whole
from wavlm_lightning.masking import SpanMask


@dataclass(frozen=True, kw_only=True)
class DataConfig(Checked):
    """How examples become batches.

    Args:
        batch_size: examples in a batch; about the average where batches are bucketed.
        batches_per_update: batches whose gradients make one update.
        order: random, or bucketed: examples of nearly one length, the same seconds in each batch.
        eval_seconds: most seconds of audio in a batch of evaluation.
        num_workers: loading processes; 0 loads in the training process.
        seed: of order, crops and mixtures; None for the seed of the run.
        check: "full" decodes every recording once, and remembers it; "header" reads headers; "none"
            reads those of recordings that it does not remember; "auto" is full for a manifest,
            else header.
        bad_files: an unusable recording ends in an error, or is left out and counted.
    """

    batch_size: int = whole(1, 10**6)
    batches_per_update: int = whole(1, 10**6)
    order: Literal["random", "bucketed"]
    eval_seconds: float = number(0, 10**6, above=True, default=120.0)
    num_workers: int = whole(0, 1024, default=1)
    seed: int | None = seed(default=None)
    check: Literal["auto", "full", "header", "none"] = "auto"
    bad_files: Literal["error", "drop"] = "error"


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Checked):
    """How head and layer weights are trained.

    Args:
        name: adam, or adamw with its decoupled weight decay.
        lr: learning rate, constant.
        betas: of the moments.
        eps: of the division.
        weight_decay: per update, times the learning rate.
        clip: largest gradient norm over head and layer weights, 0 for no clipping.
        total_updates: of the training.
    """

    name: Literal["adam", "adamw"]
    lr: float = number(0, 1000, above=True)
    betas: tuple[float, float] = number(0, 1, below=True)
    eps: float = number(0, 1, above=True)
    weight_decay: float = number(0, 1000)
    clip: float = number(0, 10**9)
    total_updates: int = whole(1)


@dataclass(frozen=True, kw_only=True)
class FinetuneOptim(Checked):
    """Adam and its schedule.

    Args:
        lr: peak learning rate.
        betas: decay of Adam's two averages.
        eps: Adam's epsilon.
        total_updates: of the training.
        head_updates: over these first updates the head is trained alone.
        schedule: of the learning rate.
        clip: largest L2 norm of the whole gradient, 0 for no clipping.
    """

    lr: float = number(0, 1000, above=True)
    betas: tuple[float, float] = number(0, 1, below=True)
    eps: float = number(0, 1, above=True)
    total_updates: int = whole(1)
    head_updates: int = whole(0)
    schedule: TriStage
    clip: float = number(0, 10**9, default=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_updates > self.total_updates:
            raise ValueError(
                f"optim.head_updates={self.head_updates} is above optim.total_updates="
                f"{self.total_updates}"
            )


@dataclass(frozen=True, kw_only=True)
class HiddenSpans(Checked):
    """What training hides from the encoder.

    Args:
        time: spans of frames, replaced by the mask vector of pre-training.
        channels: spans of the projected features' channels, set to zero.
    """

    time: SpanMask
    channels: SpanMask

    def __call__(
        self, lengths: list[int], dim: int, draw: Callable[[str, int], np.random.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Frames (B, F) and channels (B, D) that are hidden, for frame counts of rows."""
        frames = torch.zeros(len(lengths), max(lengths), dtype=torch.bool)
        channels = torch.zeros(len(lengths), dim, dtype=torch.bool)
        for row, length in enumerate(lengths):
            if length > self.time.length + 1:  # a shorter one shows all it has
                frames[row, :length] = torch.from_numpy(self.time.row(length, draw("time", row)))
            channels[row] = torch.from_numpy(self.channels.row(dim, draw("channels", row)))
        return frames, channels
