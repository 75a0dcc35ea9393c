# SPDX-License-Identifier: Apache-2.0
"""MTWV against counting misses and false alarms at every threshold, and worked by hand."""

import numpy as np
import pytest

from wavlm_lightning.downstream.metrics.mtwv import BETA, mtwv

Scores = dict[str, dict[str, float]]
Truth = dict[str, set[str]]


def value_by_counting(scores: Scores, truth: Truth, num_documents: int) -> float:
    """1 minus mean of P(miss) + 12.49 P(false alarm), at each threshold there can be."""
    wanted = [query for query, documents in truth.items() if documents]
    best = 0.0
    for threshold in {s for q in wanted for s in scores.get(q, {}).values()}:
        losses = []
        for query in wanted:
            found = {d for d, s in scores.get(query, {}).items() if s >= threshold}
            miss = len(truth[query] - found) / len(truth[query])
            false = len(found - truth[query]) / (num_documents - len(truth[query]))
            losses.append(miss + 12.49 * false)
        best = max(best, 1 - float(np.mean(losses)))
    return best


def random_case(seed: int) -> tuple[Scores, Truth, int]:
    """Few or many queries, with ties, without true documents, or without scores."""
    rng = np.random.default_rng(seed)
    documents = [f"d{i}" for i in range(rng.integers(5, 80))]
    scores: Scores = {}
    truth: Truth = {}
    for i in range(rng.integers(1, 12)):
        true = {d for d in documents[:-1] if rng.random() < rng.choice([0.0, 0.05, 0.3])}
        values = rng.standard_normal(len(documents)) + [3.0 * (d in true) for d in documents]
        if seed % 2:
            values = values.round(int(rng.integers(2)))
        truth[f"q{i}"] = true
        if rng.random() < 0.9:
            scores[f"q{i}"] = dict(zip(documents, values.tolist(), strict=True))
    truth["sure"] = {"d0"}
    return scores, truth, len(documents) + int(rng.integers(3000))


@pytest.mark.parametrize("seed", range(100))
def test_value_matches_counting(seed: int) -> None:
    scores, truth, num_documents = random_case(seed)
    ours = mtwv(scores, truth, num_documents=num_documents).value
    assert ours == pytest.approx(value_by_counting(scores, truth, num_documents), abs=1e-9)


def test_beta_is_that_of_the_costs_and_the_prior() -> None:
    assert pytest.approx(12.49) == BETA


def test_queries_that_are_not_looked_for_count_as_missed() -> None:
    found: Scores = {"a": {"x": 1.0, "y": 0.0}}
    assert mtwv(found, {"a": {"x"}}, num_documents=2).value == 1.0
    assert mtwv(found, {"a": {"x"}, "b": {"y"}}, num_documents=2).value == 0.5


def test_finding_nothing_is_worth_zero() -> None:
    wrong: Scores = {"a": {"x": 0.0, "y": 1.0}}
    assert mtwv(wrong, {"a": {"x"}}, num_documents=2).value == 0.0
    assert mtwv({}, {"a": {"x"}}, num_documents=2).value == 0.0


def test_one_threshold_holds_for_all_queries() -> None:
    scores: Scores = {"a": {"x": 9.0, "y": 8.0}, "b": {"x": 1.0, "y": 2.0}}
    truth: Truth = {"a": {"x"}, "b": {"y"}}
    # Below 8 document y is a false alarm of a, so b's own document cannot be had without it.
    assert mtwv(scores, truth, num_documents=2).value == 0.5
    assert mtwv(scores, truth, num_documents=2).threshold == 9.0


def test_ground_truth_without_any_document_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one query with a true document"):
        mtwv({"a": {"x": 1.0}}, {"a": set()}, num_documents=1)
