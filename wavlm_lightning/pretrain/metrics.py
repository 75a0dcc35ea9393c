# SPDX-License-Identifier: Apache-2.0
"""What validation measures of masked prediction, added up over batches and processes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from wavlm_lightning.pretrain.objective import MaskedLoss


class MaskedMetrics(Metric):
    """Loss and accuracy over masked frames, and the accuracy of always naming the commonest label.

    >>> metrics = MaskedMetrics(num_classes=3)
    >>> loss = MaskedLoss(torch.tensor(4.0), torch.tensor(1), 4)
    >>> metrics.update(loss, torch.tensor([0, 2, 2, 2]))
    >>> {k: round(float(v), 2) for k, v in metrics.compute().items()}
    {'loss': 1.0, 'accuracy_masked': 0.25, 'majority': 0.75}
    """

    full_state_update = False
    loss: Tensor
    correct: Tensor
    counts: Tensor

    def __init__(self, num_classes: int):
        super().__init__()
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("correct", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, loss: MaskedLoss, targets: Tensor) -> None:
        """Add a batch: its sums, and the labels (N,) int64 of its masked frames."""
        self.loss += loss.loss.double()
        self.correct += loss.correct
        self.counts.scatter_add_(0, targets, torch.ones_like(targets))

    def compute(self) -> dict[str, Tensor]:
        """Means over all masked frames; the loss in nats."""
        total = self.counts.sum()
        return {
            "loss": self.loss / total,
            "accuracy_masked": self.correct / total,
            "majority": self.counts.max() / total,
        }
