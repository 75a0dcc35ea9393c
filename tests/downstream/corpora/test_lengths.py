# SPDX-License-Identifier: Apache-2.0
"""Lengths of many files: measured, kept, and what is said of those that cannot be used."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from downstream.corpora.lengths import audio_lengths, cached_lengths
from wavlm_lightning.audio import AudioError, audio_length

Record = Callable[..., Path]


class Counting:
    """Measures a file, and remembers which."""

    def __init__(self) -> None:
        self.measured: list[str] = []

    def __call__(self, path: Path) -> int:
        self.measured.append(path.name)
        return audio_length(path)


def test_lengths_come_in_the_order_of_the_files(record: Record) -> None:
    sizes = [3_000, 1_000, 2_000] * 10
    assert audio_lengths([record(f"{i}.wav", n) for i, n in enumerate(sizes)]) == sizes


@pytest.mark.parametrize(("rate", "num_samples"), [(8_000, 4_000), (44_100, 22_050)])
def test_lengths_are_those_at_16_khz(record: Record, rate: int, num_samples: int) -> None:
    assert audio_lengths([record("a.wav", num_samples, rate=rate)]) == [8_000]


def test_no_files_have_no_lengths() -> None:
    assert audio_lengths([]) == []


def test_file_that_cannot_be_used_is_named(record: Record) -> None:
    bad = record("bad.wav")
    bad.write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"bad\.wav: not readable as audio"):
        audio_lengths([record("good.wav"), bad])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav: no such file"):
        audio_lengths([tmp_path / "gone.wav"])


def test_three_bad_files_are_named_and_the_others_counted(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.wav" for i in range(5)]
    with pytest.raises(AudioError, match=r"0\.wav.*1\.wav.*2\.wav.* \(and 2 more such files\)$"):
        audio_lengths(paths)


def test_kept_lengths_are_those_measured(tmp_path: Path, record: Record) -> None:
    paths = [record("a.wav", 1_000), record("b.wav", 2_000)]
    for _ in range(2):
        assert cached_lengths(paths, audio_length, tmp_path / "cache/l.json") == [1_000, 2_000]


def test_file_is_measured_once(tmp_path: Path, record: Record) -> None:
    paths, measure = [record("a.wav"), record("b.wav")], Counting()
    cached_lengths(paths[:1], measure, tmp_path / "l.json")
    cached_lengths(paths, measure, tmp_path / "l.json")
    assert measure.measured == ["a.wav", "b.wav"]


def test_file_that_was_rewritten_is_measured_again(tmp_path: Path, record: Record) -> None:
    path = record("a.wav", 1_000)
    cached_lengths([path], audio_length, tmp_path / "l.json")
    record("a.wav", 2_000)
    assert cached_lengths([path], audio_length, tmp_path / "l.json") == [2_000]


def test_file_of_the_same_size_at_another_time_is_measured_again(
    tmp_path: Path, record: Record
) -> None:
    path, measure = record("a.wav"), Counting()
    for time in (1_000, 2_000):
        os.utime(path, (time, time))
        cached_lengths([path], measure, tmp_path / "l.json")
    assert len(measure.measured) == 2


def test_bad_file_is_not_kept(tmp_path: Path, record: Record) -> None:
    bad = record("bad.wav")
    bad.write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        cached_lengths([bad], audio_length, tmp_path / "l.json")
    assert not (tmp_path / "l.json").exists()
