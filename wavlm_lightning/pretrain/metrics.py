# SPDX-License-Identifier: Apache-2.0
"""What validation measures of masked prediction, added up over batches and processes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from wavlm_lightning.pretrain.objective import MaskedLoss


class MaskedMetrics(Metric):
    """Loss, accuracy and use of codes over masked frames.

    The accuracy of always naming the commonest label is `majority`. `codes_predicted` is the share
    of codes that are predicted at all, perplexities say how evenly: as many codes, used equally,
    would have that one. A model that collapses predicts few.

    >>> metrics = MaskedMetrics(num_classes=4)
    >>> predicted = torch.tensor([2, 2, 0, 0])
    >>> loss = MaskedLoss(torch.tensor(4.0), torch.tensor(1), 4, predicted)
    >>> metrics.update(loss, torch.tensor([0, 2, 2, 2]), predicted)
    >>> for name, value in metrics.compute().items():
    ...     print(name, round(float(value), 2))
    loss 1.0
    accuracy_masked 0.25
    majority 0.75
    codes_predicted 0.5
    perplexity_predicted 2.0
    perplexity_labels 1.75
    """

    full_state_update = False
    loss: Tensor
    correct: Tensor
    counts: Tensor
    predicted: Tensor

    def __init__(self, num_classes: int):
        super().__init__()
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("correct", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        # One more, for classes of the head that no label has.
        others = torch.zeros(num_classes + 1, dtype=torch.int64)
        self.add_state("predicted", others, dist_reduce_fx="sum")

    def update(self, loss: MaskedLoss, targets: Tensor, predicted: Tensor) -> None:
        """Add a batch.

        Args:
            loss: Its sums.
            targets: (N,) int64 labels of its masked frames.
            predicted: (N,) int64 codes that the head names, below 0 for classes of no label.
        """
        self.loss += loss.loss.double()
        self.correct += loss.correct
        self.counts.scatter_add_(0, targets, torch.ones_like(targets))
        codes = predicted.where(predicted >= 0, len(self.counts))
        self.predicted.scatter_add_(0, codes, torch.ones_like(codes))

    def compute(self) -> dict[str, Tensor]:
        """Means over all masked frames; the loss in nats."""
        total = self.counts.sum()
        return {
            "loss": self.loss / total,
            "accuracy_masked": self.correct / total,
            "majority": self.counts.max() / total,
            "codes_predicted": (self.predicted[:-1] > 0).double().mean(),
            "perplexity_predicted": perplexity(self.predicted[:-1]),
            "perplexity_labels": perplexity(self.counts),
        }


def perplexity(counts: Tensor) -> Tensor:
    """Exponential of the entropy () of what was counted (C,)."""
    shares = counts.double() / counts.sum().clamp(min=1)
    return torch.special.entr(shares).sum().exp()
