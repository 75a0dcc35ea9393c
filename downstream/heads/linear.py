# SPDX-License-Identifier: Apache-2.0
"""One linear layer over frames."""

from torch import Tensor, nn

from downstream.features import Frames


class FrameLinear(nn.Module):
    """Frames of width `dim` -> logits (B, F, `num_symbols`).

    Args:
        dim: of frames.
        num_symbols: logits a frame.
        dropout: before the layer.
    """

    def __init__(self, dim: int, num_symbols: int, *, dropout: float = 0.0):
        super().__init__()
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(dim, num_symbols)

    def forward(self, frames: Frames) -> Tensor:
        """(B, F, D) -> (B, F, U)."""
        logits: Tensor = self.linear(self.dropout(frames.x))
        return logits
