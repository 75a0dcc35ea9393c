# SPDX-License-Identifier: Apache-2.0
"""Losses of the tasks: by brute force, invariant to order, blind to padding."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wavlm_lightning.downstream.losses import am_softmax, permutation_bce, permutation_mse

LENGTHS = torch.tensor([12, 7, 1])
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def activities(*, speakers: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, F, S), activities, lengths."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 12, speakers, generator=generator)
    active = (torch.rand(3, 12, speakers, generator=generator) < 0.5).float()
    return logits, active, LENGTHS


def magnitudes(*, speakers: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Estimates (B, S, F, N), targets, lengths."""
    generator = torch.Generator().manual_seed(1)
    estimates, targets = torch.rand(2, 3, speakers, 12, 5, generator=generator)
    return estimates, targets, LENGTHS


# Each loss with a batch of its own, and the dimensions of speakers and of frames.
BOTH = pytest.mark.parametrize(
    ("loss", "batch", "speaker_dim", "frame_dim"),
    [(permutation_bce, activities, 2, 1), (permutation_mse, magnitudes, 1, 2)],
    ids=["bce", "mse"],
)
Batches = Callable[..., tuple[Tensor, Tensor, Tensor]]


def bce_by_brute_force(logits: Tensor, active: Tensor, lengths: Tensor) -> float:
    total = 0.0
    for x, y, n in zip(logits.double(), active.double(), lengths.tolist(), strict=True):
        p = torch.sigmoid(x[:n])
        total += min(
            float(-(z * p.log() + (1 - z) * (1 - p).log()).mean(1).sum())
            for order in permutations(range(x.shape[1]))
            for z in [y[:n, list(order)]]
        )
    return total / int(lengths.sum())


def mse_by_brute_force(estimates: Tensor, targets: Tensor, lengths: Tensor) -> float:
    costs = []
    for x, y, n in zip(estimates.double(), targets.double(), lengths.tolist(), strict=True):
        best = min(
            sum(float((x[i, :n] - y[j, :n]).square().sum()) for i, j in enumerate(order))
            for order in permutations(range(len(x)))
        )
        costs.append(best / n / len(x))
    return float(np.mean(costs))


def test_am_softmax_is_cross_entropy_with_a_margin_on_the_right_class() -> None:
    cosines, speakers = 2 * torch.rand(6, 9) - 1, torch.randint(9, (6,))
    onehot = torch.eye(9)[speakers]
    wanted = F.cross_entropy(30 * (cosines - 0.4 * onehot), speakers)
    torch.testing.assert_close(am_softmax(cosines, speakers, margin=0.4, scale=30.0), wanted)


def test_am_softmax_matches_its_equation() -> None:
    cosines, speakers = 2 * torch.rand(6, 9, dtype=torch.float64) - 1, torch.randint(9, (6,))
    right = cosines[torch.arange(6), speakers]
    others = (30 * cosines).exp().sum(1) - (30 * right).exp()
    with_margin = (30 * (right - 0.4)).exp()
    wanted = -(with_margin / (with_margin + others)).log().mean()
    torch.testing.assert_close(am_softmax(cosines, speakers, margin=0.4, scale=30.0), wanted)


@pytest.mark.parametrize("speakers", [2, 3])
def test_bce_matches_brute_force(speakers: int) -> None:
    batch = activities(speakers=speakers)
    assert float(permutation_bce(*batch)) == pytest.approx(bce_by_brute_force(*batch), rel=1e-5)


@pytest.mark.parametrize("speakers", [2, 3])
def test_mse_matches_brute_force(speakers: int) -> None:
    batch = magnitudes(speakers=speakers)
    assert float(permutation_mse(*batch)) == pytest.approx(mse_by_brute_force(*batch), rel=1e-5)


@BOTH
def test_order_of_the_references_does_not_matter(
    loss: Loss, batch: Batches, speaker_dim: int, frame_dim: int
) -> None:
    outputs, references, lengths = batch()
    swapped = references.clone()
    swapped[1] = references[1].flip(speaker_dim - 1)  # of one utterance alone
    torch.testing.assert_close(loss(outputs, swapped, lengths), loss(outputs, references, lengths))


@BOTH
def test_what_stands_on_padding_does_not_matter(
    loss: Loss, batch: Batches, speaker_dim: int, frame_dim: int
) -> None:
    outputs, references, lengths = batch()
    noisy, other = outputs.transpose(1, frame_dim).clone(), references.transpose(1, frame_dim)
    other = other.clone()
    for row, length in enumerate(lengths.tolist()):
        noisy[row, length:], other[row, length:] = 50.0, 1.0
    torch.testing.assert_close(
        loss(noisy.transpose(1, frame_dim), other.transpose(1, frame_dim), lengths),
        loss(outputs, references, lengths),
    )


@BOTH
def test_more_padding_does_not_matter(
    loss: Loss, batch: Batches, speaker_dim: int, frame_dim: int
) -> None:
    outputs, references, lengths = batch()
    behind = [0, 0] * (outputs.ndim - 1 - frame_dim) + [0, 9]
    longer = F.pad(outputs, behind), F.pad(references, behind), lengths
    torch.testing.assert_close(loss(*longer), loss(outputs, references, lengths))


@BOTH
def test_perfect_output_in_any_order_costs_nothing(
    loss: Loss, batch: Batches, speaker_dim: int, frame_dim: int
) -> None:
    _, references, lengths = batch()
    perfect = references.flip(speaker_dim)
    if loss is permutation_bce:
        perfect = 40 * perfect - 20  # logits
    assert float(loss(perfect, references, lengths)) < 1e-6


def test_bce_is_over_all_frames_of_the_batch() -> None:
    logits, active, lengths = activities()
    parts = [
        permutation_bce(logits[i : i + 1], active[i : i + 1], lengths[i : i + 1]) * lengths[i]
        for i in range(3)
    ]
    wanted = torch.stack(parts).sum() / lengths.sum()
    torch.testing.assert_close(permutation_bce(logits, active, lengths), wanted)


def test_mse_is_the_mean_over_utterances() -> None:
    estimates, targets, lengths = magnitudes()
    parts = [
        permutation_mse(estimates[i : i + 1], targets[i : i + 1], lengths[i : i + 1])
        for i in range(3)
    ]
    torch.testing.assert_close(
        permutation_mse(estimates, targets, lengths), torch.stack(parts).mean()
    )
