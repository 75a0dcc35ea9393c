# SPDX-License-Identifier: Apache-2.0
"""Linear layers over frames."""

from torch import Tensor, nn

from wavlm_lightning.downstream.features.frames import Frames


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


class ProjectedLinear(nn.Module):
    """Two linear layers with nothing between them.

    SUPERB's frame-level head (s3prl ec8064b5, downstream/model.py, FrameLevel).
    """

    def __init__(self, dim: int, *, hidden: int, num_symbols: int):
        super().__init__()
        self.projection = nn.Linear(dim, hidden)
        self.linear = nn.Linear(hidden, num_symbols)

    def forward(self, frames: Frames) -> Tensor:
        """(B, F, D) -> logits (B, F, U)."""
        logits: Tensor = self.linear(self.projection(frames.x))
        return logits
