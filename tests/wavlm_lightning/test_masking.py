# SPDX-License-Identifier: Apache-2.0
"""Span masks: how much they hide, how they are shaped, what they refuse."""

import numpy as np
import pytest
import torch

from wavlm_lightning.masking import SpanMask

HUBERT = SpanMask(prob=0.8, length=10, min_spans=2)
EQUAL = SpanMask(prob=0.8, length=10, min_spans=2, equalize=True)


def generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(count)]


def run_lengths(row: np.ndarray) -> np.ndarray:
    edges = np.flatnonzero(np.diff(np.r_[0, row.astype(int), 0]))
    return edges[1::2] - edges[::2]


# The shares are fairseq's, measured with the code that SpanMask's docstring names.
@pytest.mark.parametrize(("num_frames", "share"), [(781, 0.565), (390, 0.569), (99, 0.572)])
def test_share_of_hidden_frames_is_fairseqs(num_frames: int, share: float) -> None:
    masked = HUBERT([num_frames] * 2000, generators(2000))
    assert abs(float(masked.float().mean()) - share) < 0.01


@pytest.mark.parametrize(("num_frames", "share"), [(781, 0.535), (390, 0.525), (99, 0.485)])
def test_share_in_equalized_batches_of_five_is_fairseqs(num_frames: int, share: float) -> None:
    shares = [
        EQUAL([num_frames] * 5, generators(5, seed=i)).float().mean().item() for i in range(400)
    ]
    assert abs(np.mean(shares) - share) < 0.01


def test_equalize_reduces_every_row_to_the_smallest_count() -> None:
    lengths = [781, 300, 500, 120]
    before, after = HUBERT(lengths, generators(4)), EQUAL(lengths, generators(4))
    torch.testing.assert_close(after.sum(1), before.sum(1).min().expand(4))


def test_equalize_shows_frames_from_all_over_the_row() -> None:
    """As the released code, which draws them: not the first spans alone."""
    lengths, places = [390] * 5, []
    for seed in range(40):
        before, after = (m(lengths, generators(5, seed=seed)) for m in (HUBERT, EQUAL))
        shown = before & ~after
        places += torch.nonzero(shown)[:, 1].tolist()
    thirds = np.histogram(places, bins=3, range=(0, 390))[0] / len(places)
    assert len(places) > 300
    assert thirds.min() > 0.2


def test_equalize_hides_nothing_new() -> None:
    before, after = HUBERT([200] * 5, generators(5)), EQUAL([200] * 5, generators(5))
    assert not bool((after & ~before).any())


def test_last_frame_is_never_hidden() -> None:
    for num_frames in (12, 13, 20, 99):
        assert not bool(HUBERT([num_frames] * 300, generators(300))[:, -1].any())


def test_every_other_frame_is_hidden_sometimes() -> None:
    assert bool(HUBERT([40] * 300, generators(300))[:, :-1].any(0).all())


def test_padding_is_never_hidden() -> None:
    masked = HUBERT([100, 40], generators(2))
    assert masked.shape == (2, 100)
    assert not bool(masked[1, 39:].any())


def test_every_row_gets_the_fewest_spans() -> None:
    rare = SpanMask(prob=0.0, length=10, min_spans=3)
    for generator in generators(300):
        hidden = int(rare.row(400, generator).sum())
        assert 12 <= hidden <= 30  # three different starts: the closest three cover 12 frames


def test_spans_are_whole() -> None:
    for generator in generators(300):
        assert run_lengths(HUBERT.row(200, generator)).min() >= 10


def test_shortest_utterance_leaves_a_frame_visible() -> None:
    for generator in generators(50):
        assert int(HUBERT.row(12, generator).sum()) == 11  # both possible starts, 0 and 1


def test_too_short_utterance_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"11 frames cannot have spans of 10 masked.*data\.min_samples"
    ):
        HUBERT.row(11, np.random.default_rng(0))


@pytest.mark.parametrize("mask", [HUBERT, EQUAL])
def test_same_generators_give_the_same_mask(mask: SpanMask) -> None:
    lengths = [300, 200]
    torch.testing.assert_close(mask(lengths, generators(2)), mask(lengths, generators(2)))


def test_other_generators_give_another_mask() -> None:
    first, second = HUBERT([300] * 2, generators(2))
    assert not torch.equal(first, second)
