# SPDX-License-Identifier: Apache-2.0
"""The x-vector: layers over a growing context, mean and deviation over time, an embedding.

X-vectors (Snyder et al. 2018); sizes of SUPERB's verification head (s3prl ec8064b5,
downstream/sv_voxceleb1/model.py).
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.lengths import padding_mask

# Width in frames and dilation of each layer; un-padded, so 14 frames are lost in all.
CONTEXT = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))
LOST = sum((width - 1) * dilation for width, dilation in CONTEXT)
POOLED_FACTOR = 1500 / 512  # of the last layer's width to the others', as published


class XVectors(NamedTuple):
    """What the head makes of a batch."""

    embedding: Tensor  # (B, D) after the first layer over pooled statistics and its ReLU
    cosines: Tensor  # (B, C) with the class vectors, for training


class XVector(nn.Module):
    """Frames to an embedding, and cosines with one vector a training speaker.

    Args:
        dim: width of a frame.
        width: of the layers and of the embedding.
        num_classes: training speakers.
        init: of all but the class vectors: torch's own, as published, which leaves hardly any
            difference between utterances after eight layers; or he (He et al. 2015) that keeps it.
    """

    def __init__(
        self, dim: int, *, width: int, num_classes: int, init: Literal["torch", "he"] = "torch"
    ):
        super().__init__()
        self.projection = nn.Linear(dim, width)
        last = round(width * POOLED_FACTOR)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, last if i == len(CONTEXT) - 1 else width, size, dilation=dilation)
            for i, (size, dilation) in enumerate(CONTEXT)
        )
        self.embedding = nn.Linear(2 * last, width)
        self.output = nn.Linear(width, width)
        self.classes = nn.Parameter(torch.empty(width, num_classes))
        nn.init.xavier_normal_(self.classes)
        if init == "he":
            self.apply(_he)

    def forward(self, frames: Frames) -> XVectors:
        """(B, F, D) -> embeddings (B, D') and cosines (B, C)."""
        short = int(frames.lengths.min())
        if short <= LOST + 1:
            raise ValueError(
                f"an utterance of {short} frames: the x-vector needs {LOST + 2}, two after its "
                "context; leave shorter ones out"
            )
        x = self.projection(frames.x).transpose(1, 2)  # (B, D, F)
        for layer in self.layers:
            x = F.relu(layer(x))
        lengths = frames.lengths - LOST
        embedding = F.relu(self.embedding(statistics(x, lengths)))
        output = F.normalize(F.relu(self.output(embedding)), dim=1)
        return XVectors(embedding, output @ F.normalize(self.classes, dim=0))


def _he(module: nn.Module) -> None:
    """Normal weights that keep the variance through a ReLU, biases of zero."""
    if isinstance(module, nn.Linear | nn.Conv1d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        assert module.bias is not None
        nn.init.zeros_(module.bias)


def statistics(x: Tensor, lengths: Tensor) -> Tensor:
    """Mean and unbiased standard deviation over valid frames: (B, D, F) -> (B, 2D)."""
    valid = ~padding_mask(lengths, x.shape[2], x.device)[:, None]  # (B, 1, F)
    count = lengths.to(x.device, non_blocking=True)[:, None]
    mean = (x * valid).sum(2) / count
    centred = (x - mean[..., None]) * valid
    variance = centred.square().sum(2) / (count - 1)
    # The gradient of a square root is infinite at zero, where ReLU units that never fire are.
    return torch.cat([mean, (variance + 1e-14).sqrt()], dim=1)
