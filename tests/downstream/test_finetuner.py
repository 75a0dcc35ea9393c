# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning hides from the encoder, and its learning rate."""

import itertools

import numpy as np
import pytest

from downstream.config import HiddenSpans
from downstream.schedule import TriStage
from wavlm_lightning.masking import SpanMask
from wavlm_lightning.seeding import generator

SPANS = HiddenSpans(
    time=SpanMask(prob=0.65, length=10, min_spans=2),
    channels=SpanMask(prob=0.5, length=64, min_spans=0),
)


def draw(what: str, row: int) -> np.random.Generator:
    return generator(0, what, row)


def test_about_half_of_time_and_channels_is_hidden() -> None:
    frames, channels = SPANS([500] * 200, 768, draw)
    assert frames.shape == (200, 500)
    assert channels.shape == (200, 768)
    # Spans overlap: 1 - exp(-p) of a long row.
    assert float(frames.float().mean()) == pytest.approx(1 - np.exp(-0.65), abs=0.02)
    assert float(channels.float().mean()) == pytest.approx(1 - np.exp(-0.5), abs=0.03)


def test_padding_and_very_short_utterances_are_not_hidden() -> None:
    frames, _ = SPANS([500, 60, 11], 768, draw)
    assert frames[1, :60].any()
    assert not frames[1, 60:].any()
    assert not frames[2].any()


def test_rows_do_not_depend_on_each_other() -> None:
    alone, _ = SPANS([300], 768, draw)
    together, _ = SPANS([300, 400], 768, draw)
    assert (alone[0] == together[0, :300]).all()


def test_rate_rises_holds_and_falls_to_the_end() -> None:
    stages = TriStage(rise=0.1, hold=0.4, first=0.01, last=0.05)
    rates = [stages(n, 80_000) for n in range(0, 80_001, 100)]
    peak = rates.index(1.0)
    assert peak == 80
    assert rates[peak:401] == [1.0] * (401 - peak)
    assert all(a > b for a, b in itertools.pairwise(rates[401:]))
    assert rates[-1] == pytest.approx(0.05)


def test_rate_without_a_fall_holds_to_the_end() -> None:
    stages = TriStage(rise=0.2, hold=0.8, first=0.0, last=0.05)
    assert [stages(n, 10) for n in (0, 1, 2, 10)] == [0.0, 0.5, 1.0, 1.0]
