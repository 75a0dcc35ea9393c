# SPDX-License-Identifier: Apache-2.0
"""Equal error rate against scikit-learn's curve, minimum cost against SpeechBrain's."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from wavlm_lightning.downstream.metrics.eer import equal_error_rate, error_rates, min_dcf

Trials = tuple[NDArray[np.float64], NDArray[np.bool_]]


def random_trials(seed: int) -> Trials:
    """Few or many, seldom balanced, half of the cases with ties, on any scale."""
    rng = np.random.default_rng(seed)
    same = rng.random(rng.integers(5, 400)) < rng.uniform(0.05, 0.95)
    same[:2] = True, False
    scores = rng.standard_normal(len(same)) + rng.uniform(-0.5, 3) * same
    if seed % 2:
        scores = scores.round(int(rng.integers(2)))
    return rng.uniform(0.1, 20) * scores + rng.uniform(-50, 50), same


def rate_by_root(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """Where the ROC curve of scikit-learn meets the diagonal, by bisection."""
    accepted, found, _ = roc_curve(same, scores, drop_intermediate=False)

    def gap(x: float) -> float:
        return 1.0 - x - float(np.interp(x, accepted, found))

    return 100 * (brentq(gap, 0.0, 1.0, xtol=1e-12) if gap(0.0) > 0 else 0.0)


def test_eer_matches_the_root_on_the_roc_curve() -> None:
    cases = [random_trials(seed) for seed in range(100)]
    ours = [equal_error_rate(*case) for case in cases]
    assert ours == pytest.approx([rate_by_root(*case) for case in cases], rel=0, abs=1e-6)


def test_min_dcf_matches_speechbrain() -> None:
    metric_stats = pytest.importorskip("speechbrain.utils.metric_stats")
    ours, theirs = [], []
    for prior in (0.01, 0.05):
        for scores, same in (random_trials(seed) for seed in range(40)):
            ours.append(min_dcf(scores, same, target_prior=prior))
            right, wrong = (torch.from_numpy(scores[kind]) for kind in (same, ~same))
            theirs.append(metric_stats.minDCF(right, wrong, p_target=prior)[0] / prior)
    assert ours == pytest.approx(theirs, rel=0, abs=1e-5)


def test_min_dcf_is_the_cheapest_of_all_thresholds() -> None:
    scores, same = random_trials(3)
    costs = [
        0.6 * np.mean(scores[same] <= threshold) + 0.4 * np.mean(scores[~same] > threshold)
        for threshold in [-np.inf, *scores]
    ]
    assert min_dcf(scores, same, target_prior=0.6) == pytest.approx(min(costs) / 0.4)


def test_useless_scores_cost_as_much_as_a_constant_answer() -> None:
    assert min_dcf([0.5] * 6, [1, 0, 1, 0, 0, 0]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("scores", "rate"),
    [([4, 3, 2, 1], 0.0), ([1, 2, 3, 4], 100.0), ([5, 5, 5, 5], 50.0), ([4, 2, 3, 1], 50.0)],
)
def test_eer_of_four_trials_worked_by_hand(scores: list[float], rate: float) -> None:
    assert equal_error_rate(scores, [1, 1, 0, 0]) == pytest.approx(rate, rel=0, abs=1e-9)


def test_order_of_trials_does_not_matter() -> None:
    scores, same = random_trials(7)
    order = np.random.default_rng(0).permutation(len(scores))
    assert equal_error_rate(scores[order], same[order]) == equal_error_rate(scores, same)


def test_rising_function_of_the_scores_has_the_same_eer() -> None:
    scores, same = random_trials(8)
    assert equal_error_rate(np.arctan(scores / 50), same) == equal_error_rate(scores, same)


def test_error_rates_run_from_accepting_all_to_accepting_nothing() -> None:
    missed, accepted = error_rates([0.1, 0.4, 0.4, 0.9], [0, 1, 0, 1])
    assert missed.tolist() == [0.0, 0.0, 0.5, 1.0]
    assert accepted.tolist() == [1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("kind", [True, False])
def test_trials_of_one_kind_are_refused(kind: bool) -> None:
    with pytest.raises(ValueError, match="trials of one speaker and of two are both needed"):
        equal_error_rate([0.1, 0.2], [kind, kind])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_counted_and_refused(value: float) -> None:
    with pytest.raises(ValueError, match="2 scores are not finite"):
        min_dcf([0.1, value, value], [1, 0, 1])
