# SPDX-License-Identifier: Apache-2.0
"""Masked prediction: which code belongs to a masked frame?

HuBERT (Hsu et al. 2021), section 3.2, as WavLM uses it: the cosine between a projected frame and a
vector for each code, over a temperature, is the logit. One product of two normalised matrices over
masked frames alone gives the same loss as the released code's stack of gathered positives.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.fields import Checked, number, whole


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(Checked):
    """Settings of the objective.

    Args:
        projection_dim: width that frames and code vectors are compared in.
        temperature: divides the cosine.
        feature_penalty: weight of the mean square of the feature encoder's features.
        special_classes: classes before the first code that never occur; the released models carry
            the four special symbols of a fairseq dictionary.
        unmasked_weight: weight of the same loss on frames that are not masked; HuBERT and WavLM
            leave them out. Where training is very short it teaches the encoder sooner what the
            codes sound like.
    """

    projection_dim: int = whole(1, 65536)
    temperature: float = number(0, 100, above=True)
    feature_penalty: float = number(0, 10**6)
    special_classes: int = whole(0, 10**6, default=0)
    unmasked_weight: float = number(0, 10**6, default=0.0)


class MaskedLoss(NamedTuple):
    """Sums over the masked frames of a batch, to be divided by the count of all batches."""

    loss: Tensor  # scalar, in nats: cross-entropy summed over frames and label sets
    correct: Tensor  # scalar int64: frames of the first label set whose best code is the label
    frames: int  # masked frames that have a label
    predicted: Tensor  # (N,) int64: the best class of each, the special ones first


def frames_to_predict(labels: Tensor, masked: Tensor) -> Tensor:
    """Places (N,) int64, in the flat batch, of frames that are masked and have labels.

    Found where a batch is made: on a GPU, how many there are would be known after a wait.

    Args:
        labels: (B, F, S) int64, -1 where there is none.
        masked: (B, F) bool.
    """
    return (masked & (labels >= 0).all(-1)).flatten().nonzero()[:, 0]


class MaskedPrediction(nn.Module):
    """The head: a projection for each label set, and one vector for each class of each set."""

    def __init__(self, dim: int, num_clusters: tuple[int, ...], config: ObjectiveConfig):
        super().__init__()
        self.config = config
        self.num_classes = [c + config.special_classes for c in num_clusters]
        self.projection = nn.Linear(dim, config.projection_dim * len(num_clusters))
        self.classes = nn.Parameter(torch.rand(sum(self.num_classes), config.projection_dim))

    def logits(self, frames: Tensor) -> list[Tensor]:
        """(N, D) -> one (N, C) float32 a label set: cosine over temperature."""
        # In float32: bfloat16 would round logits near 10 (a cosine of 1 over 0.1) to steps of 0.06.
        projected = self.projection(frames).float().chunk(len(self.num_classes), dim=-1)
        tables = self.classes.float().split(self.num_classes)
        with torch.autocast(frames.device.type, enabled=False):
            return [
                F.normalize(x, dim=-1) @ F.normalize(t, dim=-1).T / self.config.temperature
                for x, t in zip(projected, tables, strict=True)
            ]

    def forward(self, output: Tensor, labels: Tensor, places: Tensor) -> MaskedLoss:
        """Loss on some frames.

        Args:
            output: (B, F, D) last layer.
            labels: (B, F, S) int64 codes of S label sets, -1 where there is none.
            places: (N,) int64 frames to predict, of the B * F; see `frames_to_predict`.

        >>> head = MaskedPrediction(8, (500,), ObjectiveConfig(
        ...     projection_dim=4, temperature=0.1, feature_penalty=10.0))
        >>> head(torch.randn(2, 5, 8), torch.zeros(2, 5, 1).long(), torch.arange(10)).frames
        10
        """
        # Masked frames alone go through the head: they are half of all, and classes are many.
        targets = labels.flatten(0, 1).index_select(0, places) + self.config.special_classes
        logits = self.logits(output.flatten(0, 1).index_select(0, places))
        losses = [
            F.cross_entropy(scores, targets[:, i], reduction="sum")
            for i, scores in enumerate(logits)
        ]
        predicted = logits[0].argmax(-1)
        correct = (predicted == targets[:, 0]).sum()
        return MaskedLoss(torch.stack(losses).sum(), correct, len(places), predicted)


def feature_penalty(conv_features: Tensor) -> Tensor:
    """Mean square of the feature encoder's output (B, F, C), in float32: keeps it from growing."""
    return conv_features.float().square().mean()
