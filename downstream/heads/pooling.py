# SPDX-License-Identifier: Apache-2.0
"""One vector an utterance by the mean over its frames, and the linear head on top.

SUPERB's utterance-level head (Yang et al. 2021; s3prl ec8064b5, downstream/model.py): no
non-linearity, no dropout.
"""

from torch import Tensor, nn

from wavlm_lightning.downstream.features.frames import Frames


def mean_over_time(frames: Frames) -> Tensor:
    """(B, F, D) -> (B, D), over valid frames; padding is zero already."""
    return frames.x.sum(1) / frames.lengths.to(frames.x.device, non_blocking=True)[:, None]


class MeanPoolLinear(nn.Module):
    """Linear to `hidden`, mean over time, linear to classes."""

    def __init__(self, dim: int, *, hidden: int, num_classes: int):
        super().__init__()
        self.projection = nn.Linear(dim, hidden)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, frames: Frames) -> Tensor:
        """(B, F, D) -> logits (B, C); pooled first, which an affine projection cannot tell."""
        return self.classifier(self.projection(mean_over_time(frames)))
