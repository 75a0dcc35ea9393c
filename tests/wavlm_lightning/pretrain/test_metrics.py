# SPDX-License-Identifier: Apache-2.0
"""Validation figures over several batches."""

import math

import torch

from wavlm_lightning.pretrain.metrics import MaskedMetrics
from wavlm_lightning.pretrain.objective import MaskedLoss


def loss(total: float, *, correct: int, frames: int) -> MaskedLoss:
    nothing = torch.zeros(frames, dtype=torch.int64)
    return MaskedLoss(torch.tensor(total), torch.tensor(correct), frames, nothing)


def test_batches_count_by_their_frames() -> None:
    metrics = MaskedMetrics(num_classes=4)
    metrics.update(loss(9.0, correct=1, frames=3), torch.tensor([0, 1, 1]), torch.tensor([0, 1, 1]))
    metrics.update(loss(1.0, correct=1, frames=1), torch.tensor([1]), torch.tensor([1]))
    found = {k: v.double() for k, v in metrics.compute().items()}
    evenness = math.exp(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    wanted = {"loss": 2.5, "accuracy_masked": 0.5, "majority": 0.75, "codes_predicted": 0.5}
    wanted |= {"perplexity_predicted": evenness, "perplexity_labels": evenness}
    torch.testing.assert_close(found, {k: torch.tensor(v).double() for k, v in wanted.items()})


def test_reset_forgets_everything() -> None:
    metrics = MaskedMetrics(num_classes=2)
    metrics.update(loss(9.0, correct=3, frames=3), torch.tensor([0, 0, 0]), torch.tensor([0, 0, 0]))
    metrics.reset()
    metrics.update(loss(1.0, correct=0, frames=1), torch.tensor([1]), torch.tensor([1]))
    assert float(metrics.compute()["accuracy_masked"]) == 0.0


def test_classes_of_no_label_are_no_codes() -> None:
    metrics = MaskedMetrics(num_classes=4)
    named = torch.tensor([-3, -1, 0, 1, 1])
    metrics.update(loss(1.0, correct=0, frames=5), torch.tensor([0, 0, 0, 1, 2]), named)
    found = metrics.compute()
    assert float(found["codes_predicted"]) == 0.5
    third = math.exp(-math.log(1 / 3) / 3 - 2 * math.log(2 / 3) / 3)
    torch.testing.assert_close(float(found["perplexity_predicted"]), third)
