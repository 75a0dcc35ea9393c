# SPDX-License-Identifier: Apache-2.0
"""Batched warping against loops over one query and one document at a time."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from wavlm_lightning.downstream.metrics import dtw
from wavlm_lightning.downstream.metrics.dtw import detect, side_by_side, warped_cost

Frames = NDArray[np.float64]


def cost_by_loops(query: Frames, document: Frames) -> float:
    """The same by definition, one cell after the other."""
    distance = np.exp(cdist(query, document, "cosine")) - 1
    low, high = distance.min(1, keepdims=True), distance.max(1, keepdims=True)
    distance = (distance - low) / (high - low)
    n, frames = distance.shape
    best = {(0, j): distance[0, j] for j in range(frames)}
    for i in range(1, n):
        for j in range(frames):
            before = [best[i - 1, k] for k in (j, j - 1, j - 2) if k >= 0]
            best[i, j] = distance[i, j] + min(before)
    return float(min(best[n - 1, j] for j in range(frames)) / n)


def scores_by_loops(queries: list[Frames], documents: list[Frames]) -> Frames:
    frames = np.concatenate([*queries, *documents])
    mean, scale = frames.mean(0), np.maximum(frames.std(0), 1e-9)
    q, d = ([(x - mean) / scale for x in rows] for rows in (queries, documents))
    raw = np.array([[-cost_by_loops(a, b) if len(a) >= 5 else 0.0 for b in d] for a in q])
    return (raw - raw.mean(1, keepdims=True)) / np.maximum(raw.std(1, keepdims=True), 1e-9)


def utterances(rng: np.random.Generator, count: int, shortest: int, longest: int) -> list[Frames]:
    return [
        rng.standard_normal((int(rng.integers(shortest, longest)), 7)) * 3 + 1 for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_scores_match_loops(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    queries, documents = utterances(rng, 4, 3, 20), utterances(rng, 9, 6, 60)
    monkeypatch.setattr(dtw, "BATCH_FRAMES", int(rng.integers(1, 300)))
    ours = detect([torch.from_numpy(x) for x in queries], [torch.from_numpy(x) for x in documents])
    theirs = scores_by_loops(queries, documents)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-6)


def test_costs_match_loops_to_a_millionth() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        query, *documents = utterances(rng, 6, 5, 40)
        batches = side_by_side([torch.from_numpy(x) for x in documents])
        for batch in batches:
            cost = warped_cost(dtw.distances(torch.from_numpy(query), batch))
            for i, value in zip(batch.indices, cost.tolist(), strict=True):
                assert value == pytest.approx(cost_by_loops(query, documents[i]), abs=1e-6)


def test_a_query_cut_from_a_document_is_found_there() -> None:
    rng = np.random.default_rng(1)
    documents = utterances(rng, 30, 40, 80)
    queries = [documents[i][10:22] for i in (3, 17)]
    scores = detect(
        [torch.from_numpy(x) for x in queries], [torch.from_numpy(x) for x in documents]
    )
    assert scores.argmax(1).tolist() == [3, 17]


def test_a_path_may_stay_or_skip_one_frame_but_not_two() -> None:
    low, high = 0.0, 1.0
    stays = torch.tensor([[[low, high, high, high], [low, high, high, high]]])
    skips = torch.tensor([[[low, high, high, high], [high, high, low, high]]])
    jumps = torch.tensor([[[low, high, high, high], [high, high, high, low]]])
    costs = [float(warped_cost(x)) for x in (stays, skips, jumps)]
    assert costs == [0.0, 0.0, 0.5]


def test_a_query_of_less_than_five_frames_finds_nothing() -> None:
    rng = np.random.default_rng(2)
    documents = [torch.from_numpy(x) for x in utterances(rng, 5, 20, 30)]
    scores = detect([documents[0][:4], documents[0][:5]], documents)
    assert scores[0].tolist() == [0.0] * 5
    assert math.isclose(float(scores[1].std(correction=0)), 1.0, rel_tol=1e-5)


def test_padding_does_not_change_a_score() -> None:
    rng = np.random.default_rng(3)
    query, short, long = (torch.from_numpy(x) for x in utterances(rng, 3, 30, 31))
    alone = side_by_side([short])[0]
    (both,) = side_by_side([short, torch.cat([long, long])])
    a = warped_cost(dtw.distances(query, alone))[0]
    b = warped_cost(dtw.distances(query, both))[both.indices.index(0)]
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
