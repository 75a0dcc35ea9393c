# SPDX-License-Identifier: Apache-2.0
"""What of an upstream trains beside the head, how, and what a stage of training leaves."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wavlm_lightning.fields import Checked, number, whole
from wavlm_lightning.masking import SpanMask

ENCODER = "model."  # what names of a tuned encoder's weights begin with in checkpoints


@dataclass(frozen=True, kw_only=True)
class LoRAConfig(Checked):
    """Low-rank updates of the encoder's linear layers (Hu et al. 2022).

    Args:
        rank: Rank of each update.
        alpha: An update is scaled by alpha / rank.
        layers: Linear layers that have one: those of attention, of the feed-forward parts, or all.
    """

    rank: int = whole(1, 65536, default=8)
    alpha: float = number(0, 10**6, above=True, default=16.0)
    layers: Literal["attention", "feed_forward", "all"] = "attention"


@dataclass(frozen=True, kw_only=True)
class AdaptationConfig(Checked):
    """How an encoder is adapted to a task.

    Args:
        encoder: frozen: the head trains alone; tuned: the encoder's own weights train too; lora:
            low-rank updates of them do.
        feature_encoder: The convolutions train too; else they stay as they are.
        blocks: Number of transformer blocks that train, the last ones; null for all. The projection
            and the position embedding train where all blocks do.
        take: Weights that a training leaves, for its test and for the next stage: the best on dev,
            the last, or the average of those at its last validations.
        average: Number of validations that are averaged.
        lora: The low-rank updates.
    """

    encoder: Literal["frozen", "tuned", "lora"] = "frozen"
    feature_encoder: bool = False
    blocks: int | None = whole(0, 1000, default=None)
    take: Literal["best", "last", "average"] = "best"
    average: int = whole(1, 1000, default=5)
    lora: LoRAConfig = field(default_factory=LoRAConfig)


def _none() -> SpanMask:
    return SpanMask(prob=0.0, length=10, min_spans=0)


@dataclass(frozen=True, kw_only=True)
class InputMasking(Checked):
    """What a training hides from the encoder, as SpecAugment does from a spectrogram.

    Args:
        time: Spans of frames, replaced by the mask embedding of pre-training.
        channels: Spans of the projected features' channels, set to zero.
    """

    time: SpanMask = field(default_factory=_none)
    channels: SpanMask = field(default_factory=_none)

    @property
    def masks_time(self) -> bool:
        """Whether any frame is ever masked."""
        return self.time.prob > 0 or self.time.min_spans > 0

    @property
    def masks_channels(self) -> bool:
        """Whether any channel is ever masked."""
        return self.channels.prob > 0 or self.channels.min_spans > 0

    def __call__(
        self, lengths: list[int], dim: int, draw: Callable[[str, int], np.random.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Masks of a batch, True where masked: frames (B, F) bool and channels (B, D) bool.

        Args:
            lengths: Frames of each row.
            dim: Channels.
            draw: The generator of "time" or "channels" and a row.
        """
        frames = torch.zeros(len(lengths), max(lengths), dtype=torch.bool)
        channels = torch.zeros(len(lengths), dim, dtype=torch.bool)
        for row, length in enumerate(lengths):
            # An utterance that one span would fill is not masked.
            if self.masks_time and length > self.time.length + 1:
                frames[row, :length] = torch.from_numpy(self.time.row(length, draw("time", row)))
            if self.masks_channels:
                channels[row] = torch.from_numpy(self.channels.row(dim, draw("channels", row)))
        return frames, channels

    def check(self, dim: int) -> None:
        """Refuse spans that an encoder of width `dim` has no room for.

        Raises:
            ValueError: naming the key.
        """
        if self.masks_channels and dim <= self.channels.length + 1:
            raise ValueError(
                f"masking.channels.length must be at most {dim - 2}, for the encoder's {dim} "
                f"channels (got {self.channels.length})"
            )
