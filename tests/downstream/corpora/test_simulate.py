# SPDX-License-Identifier: Apache-2.0
"""Mixtures of two speakers: who is in them, how they are made, when it is said they speak."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wavlm_lightning.audio import read_audio, write_audio
from wavlm_lightning.downstream.corpora.corpus import Recording
from wavlm_lightning.downstream.corpora.simulate import (
    at_level,
    check_speakers,
    conversation,
    partner,
    separated,
    speech,
)

Record = Callable[..., Path]
MOST = 12_000  # samples


@pytest.fixture
def rows(record: Record) -> list[Recording]:
    """Two recordings of each of three speakers, between 0.5 and 0.75 s."""
    found = []
    for i, speaker in enumerate(["ann", "bob", "cyd"] * 2):
        path = record(f"{i}.wav", 8_000 + 800 * i, seed=i)
        found.append(Recording(str(i), path, "train", speaker, stop=8_000 + 800 * i))
    return found


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def residual(target: Tensor, parts: Sequence[Tensor]) -> float:
    """Share of a waveform's energy that no weighted sum of the parts explains."""
    a, b = torch.stack(list(parts), 1).double(), target.double()[:, None]
    left = b - a @ torch.linalg.lstsq(a, b).solution
    return float(left.square().sum() / b.square().sum())


def placed(waveform: Tensor, start: int, length: int) -> Tensor:
    out = torch.zeros(length)
    part = waveform[: length - start]
    out[start : start + len(part)] = part
    return out


def test_partner_is_another_speaker(rows: list[Recording]) -> None:
    drawn = {partner(rows, 0, generator(seed)).id for seed in range(60)}
    assert drawn == {"1", "2", "4", "5"}


def test_rows_of_one_speaker_are_refused(rows: list[Recording]) -> None:
    with pytest.raises(ValueError, match="mixtures need two speakers, all 2 rows of train are of"):
        check_speakers([rows[0], rows[3]])


def test_level_is_within_five_decibels_of_the_reference() -> None:
    quiet, loud = 0.001 * torch.randn(4_000), torch.randn(4_000)
    levels = [
        10
        * float(
            (at_level(quiet, loud, generator(i)).square().mean() / loud.square().mean()).log10()
        )
        for i in range(200)
    ]
    assert (min(levels), max(levels)) == pytest.approx((-5, 5), abs=0.3)


def test_level_of_silence_stays_silence() -> None:
    out = at_level(torch.zeros(400), torch.randn(400), generator())
    torch.testing.assert_close(out, torch.zeros(400))


def test_sources_are_recordings_of_two_speakers(rows: list[Recording]) -> None:
    recordings = [read_audio(row.path) for row in rows]
    for seed in range(10):
        first, second = separated(rows, 0, generator(seed), max_samples=MOST)
        fits = [residual(second, [r[: len(second)]]) < 1e-6 for r in recordings]
        assert residual(first, [recordings[0][: len(first)]]) < 1e-6
        assert [rows[i].speaker != "ann" for i in np.flatnonzero(fits)] == [True]


@pytest.mark.parametrize(("index", "lengths"), [(0, {8_000}), (5, {8_000, 8_800, 10_400, 11_200})])
def test_sources_are_as_long_as_the_shorter_one(
    rows: list[Recording], index: int, lengths: set[int]
) -> None:
    drawn = [separated(rows, index, generator(i), max_samples=MOST) for i in range(30)]
    assert {sources.shape[1] for sources in drawn} == lengths


def test_sources_are_no_longer_than_asked(rows: list[Recording]) -> None:
    assert separated(rows, 0, generator(), max_samples=5_000).shape == (2, 5_000)


def test_same_generator_draws_the_same_sources(rows: list[Recording]) -> None:
    draws = [separated(rows, 2, generator(5), max_samples=MOST) for _ in range(2)]
    torch.testing.assert_close(draws[0], draws[1], rtol=0, atol=0)


def test_mixture_of_loud_sources_stays_below_full_scale(
    rows: list[Recording],
) -> None:
    for row in rows:
        waveform = read_audio(row.path)
        write_audio(row.path, 0.999 * waveform / waveform.abs().max())
    for seed in range(10):
        peak = float(separated(rows, 0, generator(seed), max_samples=MOST).sum(0).abs().max())
        assert peak <= 0.95 + 1e-6


def test_conversation_is_the_sum_of_two_speakers(rows: list[Recording]) -> None:
    recordings = [read_audio(row.path) for row in rows]
    for seed in range(10):
        mixture, turns = conversation(rows, 0, generator(seed), max_samples=MOST)
        start = round(16_000 * next(t.start for t in turns if t.speaker == "b"))
        first = placed(recordings[0], 0, len(mixture))
        left = [
            residual(
                mixture, [first, placed(recordings[i][: round(0.7 * MOST)], start, len(mixture))]
            )
            for i in (1, 2, 4, 5)
        ]
        assert min(left) < 1e-6


def test_conversation_starts_with_the_row(rows: list[Recording]) -> None:
    mixture, turns = conversation(rows, 3, generator(), max_samples=MOST)
    start = round(16_000 * next(t.start for t in turns if t.speaker == "b"))
    assert residual(mixture[:start], [read_audio(rows[3].path)[:start]]) < 1e-6


def test_conversation_has_turns_of_two_speakers_within_it(rows: list[Recording]) -> None:
    for seed in range(30):
        mixture, turns = conversation(rows, seed % 6, generator(seed), max_samples=MOST)
        seconds = len(mixture) / 16_000
        assert {turn.speaker for turn in turns} == {"a", "b"}
        assert all(0 <= turn.start < turn.stop <= seconds for turn in turns)


def test_turns_of_a_conversation_are_sorted(rows: list[Recording]) -> None:
    _, turns = conversation(rows, 0, generator(), max_samples=MOST)
    assert turns == sorted(turns, key=lambda turn: turn.start)


def test_speakers_of_conversations_overlap_or_pause(rows: list[Recording]) -> None:
    gaps = []
    for seed in range(60):
        _, turns = conversation(rows, 0, generator(seed), max_samples=40_000)
        stop = max(turn.stop for turn in turns if turn.speaker == "a")
        gaps.append(min(turn.start for turn in turns if turn.speaker == "b") - stop)
    assert min(gaps) < -0.3  # of the first speaker's 0.5 s
    assert 0 < max(gaps) <= 0.05


def test_conversation_is_no_longer_than_asked(rows: list[Recording]) -> None:
    lengths = [len(conversation(rows, 5, generator(i), max_samples=MOST)[0]) for i in range(30)]
    assert max(lengths) == MOST


def test_same_generator_draws_the_same_conversation(rows: list[Recording]) -> None:
    draws = [conversation(rows, 2, generator(5), max_samples=MOST) for _ in range(2)]
    torch.testing.assert_close(draws[0][0], draws[1][0], rtol=0, atol=0)
    assert draws[0][1] == draws[1][1]


def test_speech_is_what_is_loud() -> None:
    loud = np.sin(np.arange(320 * 20) / 5).astype(np.float32)
    waveform = np.concatenate([0 * loud, loud, 0.001 * loud, loud])
    assert speech(waveform) == [(20 * 320, 40 * 320), (60 * 320, 80 * 320)]


@pytest.mark.parametrize(("windows", "stretches"), [(9, 1), (10, 2)])
def test_pause_shorter_than_a_fifth_of_a_second_belongs_to_the_speech(
    windows: int, stretches: int
) -> None:
    loud = np.sin(np.arange(320 * 20) / 5).astype(np.float32)
    waveform = np.concatenate([loud, np.zeros(320 * windows, np.float32), loud])
    assert len(speech(waveform)) == stretches


@pytest.mark.parametrize("num_samples", [3_200, 100, 0])
def test_silence_has_no_speech(num_samples: int) -> None:
    assert speech(np.zeros(num_samples, np.float32)) == []
