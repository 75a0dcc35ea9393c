# SPDX-License-Identifier: Apache-2.0
"""BLSTMs that estimate one spectral mask a source.

SUPERB's separation and enhancement head (s3prl ec8064b5, downstream/separation_stft/model.py).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.recurrent import Blstm


class MaskBlstm(nn.Module):
    """BLSTM straight on the frames with dropout between layers and after, a mask a source."""

    def __init__(
        self,
        dim: int,
        *,
        hidden: int,
        num_layers: int,
        dropout: float,
        num_sources: int,
        num_bins: int,
    ):
        super().__init__()
        sizes = [dim, *[2 * hidden] * (num_layers - 1)]
        self.layers = nn.ModuleList(Blstm(size, hidden) for size in sizes)
        self.dropout = nn.Dropout(dropout)
        self.masks = nn.ModuleList(nn.Linear(2 * hidden, num_bins) for _ in range(num_sources))

    def forward(self, frames: Frames) -> Tensor:
        """(B, F, D) -> masks (B, S, F, N), not negative."""
        x = frames.x
        for layer in self.layers:
            x = self.dropout(layer(x, frames.lengths))
        return F.relu(torch.stack([mask(x) for mask in self.masks], dim=1))
