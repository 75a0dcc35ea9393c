# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning masks in the encoder's input."""

import numpy as np
import pytest

from wavlm_lightning.downstream.adapt.policy import InputMasking
from wavlm_lightning.masking import SpanMask
from wavlm_lightning.seeding import generator

SPANS = InputMasking(
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


def test_nothing_is_masked_if_nothing_is_said() -> None:
    frames, channels = InputMasking()([500] * 20, 768, draw)
    assert not frames.any()
    assert not channels.any()


def test_rows_do_not_depend_on_each_other() -> None:
    alone, _ = SPANS([300], 768, draw)
    together, _ = SPANS([300, 400], 768, draw)
    assert (alone[0] == together[0, :300]).all()
