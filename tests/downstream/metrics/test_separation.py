# SPDX-License-Identifier: Apache-2.0
"""Improvement of SI-SDR: against the formula in NumPy, and what it must not depend on."""

from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_lightning.downstream.metrics.separation import best_order, si_sdr_improvement

Case = tuple[Tensor, Tensor, Tensor]


def random_case(seed: int, *, speakers: int = 2) -> Case:
    """Estimates that still hold some of the other speaker and some noise, in any order."""
    generator = torch.Generator().manual_seed(seed)
    sources = torch.randn(speakers, 4000, generator=generator) + 0.2  # the mean is not removed
    leak = 0.5 * torch.rand(speakers, speakers, generator=generator)
    noise = 0.1 * torch.randn(speakers, 4000, generator=generator)
    estimates = sources + leak @ sources + noise
    return estimates[torch.randperm(speakers, generator=generator)], sources, sources.sum(0)


def si_sdr(estimate: NDArray[np.float64], source: NDArray[np.float64]) -> float:
    """Le Roux et al. 2019, equation 3."""
    target = (estimate @ source) / (source @ source) * source
    return float(10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target))))


def improvement(estimates: Tensor, sources: Tensor, mixture: Tensor) -> float:
    guesses, truths, mix = (x.double().numpy() for x in (estimates, sources, mixture))
    best = max(
        float(np.mean([si_sdr(e, s) for e, s in zip(order, truths, strict=True)]))
        for order in permutations(guesses)
    )
    return best - float(np.mean([si_sdr(mix, s) for s in truths]))


@pytest.mark.parametrize("speakers", [2, 3])
def test_improvement_matches_the_formula(speakers: int) -> None:
    cases = [random_case(seed, speakers=speakers) for seed in range(8)]
    ours = [si_sdr_improvement(*case) for case in cases]
    assert ours == pytest.approx([improvement(*case) for case in cases], rel=0, abs=1e-4)


def test_scale_of_the_estimates_does_not_matter() -> None:
    estimates, sources, mixture = random_case(0)
    scaled = estimates * torch.tensor([[1e-3], [40.0]])
    assert si_sdr_improvement(scaled, sources, mixture) == pytest.approx(
        si_sdr_improvement(estimates, sources, mixture), rel=0, abs=1e-4
    )


def test_order_of_the_estimates_does_not_matter() -> None:
    estimates, sources, mixture = random_case(0)
    assert si_sdr_improvement(estimates.flip(0), sources, mixture) == pytest.approx(
        si_sdr_improvement(estimates, sources, mixture)
    )


def test_mixture_as_estimate_improves_nothing() -> None:
    _, sources, mixture = random_case(0)
    estimates = mixture.expand(2, -1)
    assert si_sdr_improvement(estimates, sources, mixture) == pytest.approx(0.0, abs=1e-9)


def test_best_order_gives_each_source_its_estimate() -> None:
    _, sources, _ = random_case(0, speakers=3)
    estimates = torch.empty_like(sources)
    estimates[[2, 0, 1]] = sources + 0.1 * torch.randn_like(sources)
    assert best_order(estimates, sources) == (2, 0, 1)
