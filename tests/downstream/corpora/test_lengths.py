# SPDX-License-Identifier: Apache-2.0
"""Lengths of many files: measured, kept, and what is said of those that cannot be used."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavlm_lightning.audio import AudioError, audio_length
from wavlm_lightning.downstream.corpora.lengths import CHECKED, Reader, audio_lengths, usable

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
    with pytest.raises(AudioError, match=r"0\.wav.*1\.wav.*2\.wav.* \(and 2 more such files\)\."):
        audio_lengths(paths)


def test_kept_lengths_are_those_measured(tmp_path: Path, record: Record) -> None:
    paths = [record("a.wav", 1_000), record("b.wav", 2_000)]
    for _ in range(2):
        assert Reader(cache=tmp_path / "kept").remembered(paths, audio_length, "l.json") == [
            1_000,
            2_000,
        ]


def test_file_is_measured_once(tmp_path: Path, record: Record) -> None:
    paths, measure = [record("a.wav"), record("b.wav")], Counting()
    Reader(cache=tmp_path / "kept").remembered(paths[:1], measure, "l.json")
    Reader(cache=tmp_path / "kept").remembered(paths, measure, "l.json")
    assert measure.measured == ["a.wav", "b.wav"]


def test_file_that_was_rewritten_is_measured_again(tmp_path: Path, record: Record) -> None:
    path = record("a.wav", 1_000)
    Reader(cache=tmp_path / "kept").remembered([path], audio_length, "l.json")
    record("a.wav", 2_000)
    assert Reader(cache=tmp_path / "kept").remembered([path], audio_length, "l.json") == [2_000]


def test_file_of_the_same_size_at_another_time_is_measured_again(
    tmp_path: Path, record: Record
) -> None:
    path, measure = record("a.wav"), Counting()
    for time in (1_000, 2_000):
        os.utime(path, (time, time))
        Reader(cache=tmp_path / "kept").remembered([path], measure, "l.json")
    assert len(measure.measured) == 2


def test_a_bad_file_that_is_mended_is_measured_again(tmp_path: Path, record: Record) -> None:
    bad = record("bad.wav")
    bad.write_bytes(b"no audio")
    reader = Reader(cache=tmp_path / "kept")
    for _ in range(2):  # the second time from what is kept
        with pytest.raises(AudioError, match=r"bad\.wav"):
            reader.remembered([bad], audio_length, "l.json")
    record("bad.wav", 1_000)
    assert reader.remembered([bad], audio_length, "l.json") == [1_000]


def test_a_damaged_file_of_kept_lengths_is_made_anew(tmp_path: Path, record: Record) -> None:
    path = record("a.wav", 1_000)
    for content in ("{", "[1]", '{"a": 1}'):
        (tmp_path / "l.json").write_text(content)
        assert Reader(cache=tmp_path).remembered([path], audio_length, "l.json") == [1_000]


def spoiled(record: Record) -> list[Path]:
    """A good file, one whose fault a header shows, and one that must be decoded to see it."""
    paths = [record("good.wav", 1_000), record("empty.wav"), record("nan.wav", 1_000)]
    paths[1].write_bytes(b"")
    soundfile.write(paths[2], np.full(1_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    return paths


@pytest.mark.parametrize(
    ("check", "lengths"), [("full", [1_000, 0, 0]), ("header", [1_000, 0, 1_000])]
)
def test_unusable_files_are_left_out_and_counted(
    tmp_path: Path, record: Record, check: str, lengths: list[int]
) -> None:
    paths = spoiled(record)
    reader = Reader(check=check, bad_files="drop", cache=tmp_path / "kept")  # type: ignore[arg-type]
    assert reader(paths) == lengths
    assert sorted(reader.unusable) == [p for p, n in zip(paths, lengths, strict=True) if n == 0]
    assert [p.name for p, _ in usable(paths, lengths)] == [
        p.name for p, n in zip(paths, lengths, strict=True) if n
    ]


def test_unusable_files_end_in_one_line_that_says_how_to_leave_them_out(record: Record) -> None:
    with pytest.raises(AudioError, match=r"data\.bad_files=drop") as caught:
        Reader(check="full")(spoiled(record))
    assert "empty.wav: empty file" in str(caught.value)
    assert "nan.wav: NaN" in str(caught.value)


def test_what_was_decoded_is_not_decoded_again(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = record("a.wav", 1_000)
    assert Reader(check="full", cache=tmp_path)([path]) == [1_000]
    assert (tmp_path / CHECKED).is_file()
    monkeypatch.setattr(
        "wavlm_lightning.downstream.corpora.lengths.check_audio", lambda _: pytest.fail("again")
    )
    assert Reader(check="full", cache=tmp_path)([path]) == [1_000]
