# SPDX-License-Identifier: Apache-2.0
"""Libri2Mix: a miniature of its layout, RTTM there and back, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavlm_lightning.downstream.corpora.corpus import Recording, measured
from wavlm_lightning.downstream.corpora.lengths import audio_lengths
from wavlm_lightning.downstream.corpora.librimix import (
    LibriMix,
    read_rttm,
    reference_turns,
    rttm,
    turns_in,
)
from wavlm_lightning.downstream.metrics.der import Turn

Record = Callable[..., Path]
IDS = ("103-1240-0003_1235-135887-0017", "26-495-0001_39-121914-0002")
SEPARATION: dict[str, Any] = {"mode": "min", "kind": "mix_clean", "has": "sources"}
DIARIZATION: dict[str, Any] = {"mode": "max", "kind": "mix_both", "has": "turns"}


@pytest.fixture
def corpus(tmp_path: Path, record: Record) -> Path:
    for i, name in enumerate(IDS):
        for part in ("mix_clean", "s1", "s2"):
            record(f"wav16k/min/train-100/{part}/{name}.wav", 8_000 + i)
        record(f"wav16k/max/dev/mix_both/{name}.wav", 9_000)
    (tmp_path / "data" / "dev").mkdir(parents=True)
    lines = [f"SPEAKER {IDS[0]} 1 0.100 0.300 <NA> <NA> {s} <NA> <NA>\n" for s in ("103", "1235")]
    (tmp_path / "data" / "dev" / "rttm").write_text("".join(lines))
    return tmp_path


def test_mixtures_are_sorted_by_id(corpus: Path) -> None:
    assert [m.id for m in LibriMix(corpus, **SEPARATION).of("train")] == list(IDS)


def test_mixtures_have_the_lengths_of_their_recordings(corpus: Path) -> None:
    found = measured(LibriMix(corpus, **SEPARATION).of("train"), audio_lengths)
    assert [m.num_samples for m in found] == [8_000, 8_001]


def test_sources_stand_beside_their_mixture(corpus: Path) -> None:
    folder = corpus / "wav16k/min/train-100"
    wanted = [folder / part / f"{IDS[0]}.wav" for part in ("s1", "s2")]
    assert LibriMix(corpus, **SEPARATION).of("train")[0].extra == {"sources": wanted}


def test_turns_stand_beside_their_mixture_and_sources_may_be_missing(corpus: Path) -> None:
    with pytest.raises(ValueError, match=rf"rttm lacks 1 of 2 mixtures, such as {IDS[1]}"):
        LibriMix(corpus, **DIARIZATION).of("dev")
    with (corpus / "data" / "dev" / "rttm").open("a") as file:
        file.write(rttm(IDS[1], [Turn("26", 0.0, 0.5)]))
    first, second = LibriMix(corpus, **DIARIZATION).of("dev")
    assert [t.speaker for t in first.extra["turns"]] == ["103", "1235"]
    assert second.extra == {"turns": [Turn("26", 0.0, 0.5)]}


def test_turns_of_a_manifest_are_lists() -> None:
    row = Recording("m1", Path("m1.wav"), extra={"turns": [["a", 0, 1.5], ["b", 1.0, 2]]})
    assert turns_in(row) == [Turn("a", 0.0, 1.5), Turn("b", 1.0, 2.0)]


@pytest.mark.parametrize("turns", [3, ["a"], [["a", 0.0]], [["a", "x", "y"]], None])
def test_turns_of_another_form_are_named(turns: Any) -> None:
    row = Recording("m1", Path("m1.wav"), extra={"turns": turns}, origin="manifest.tsv, line 2")
    with pytest.raises(ValueError, match="line 2: turns in extra of m1 must be a list of"):
        turns_in(row)


def test_missing_mixtures_are_named_beside_what_there_is(corpus: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"paths\.librimix=.*: no mixtures at wav16k/max/test/mix_both/\*\.wav; "
        "it holds data, wav16k$",
    ):
        LibriMix(corpus, **DIARIZATION).of("test")


def test_empty_folder_is_said_to_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="it holds nothing"):
        LibriMix(tmp_path, **DIARIZATION).of("test")


def test_missing_sources_are_counted(corpus: Path) -> None:
    for name in IDS:
        (corpus / f"wav16k/min/train-100/s2/{name}.wav").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=rf"2 sources are missing, such as wav16k/min/train-100/s2/{IDS[0]}\.wav$",
    ):
        LibriMix(corpus, **SEPARATION).of("train")


def test_references_say_who_speaks_when(corpus: Path) -> None:
    turns = reference_turns(corpus, "dev")
    assert turns == {IDS[0]: [Turn("103", 0.1, 0.4), Turn("1235", 0.1, 0.4)]}


def test_missing_references_are_named(corpus: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no diarization references at .*data/test/rttm$"):
        reference_turns(corpus, "test")


def test_written_turns_are_read_back(tmp_path: Path) -> None:
    found = {"x": [Turn("a", 0.0, 1.25), Turn("b", 0.5, 2.125)], "y": [Turn("a", 3.5, 4.0)]}
    (tmp_path / "rttm").write_text("".join(rttm(name, turns) for name, turns in found.items()))
    assert read_rttm(tmp_path / "rttm") == found


@pytest.mark.parametrize("line", ["", ";; a comment", "SPKR-INFO x 1 <NA> <NA> <NA> unknown a"])
def test_lines_of_another_kind_are_no_turns(tmp_path: Path, line: str) -> None:
    (tmp_path / "rttm").write_text(line + "\n" + rttm("x", [Turn("a", 0.0, 1.0)]))
    assert read_rttm(tmp_path / "rttm") == {"x": [Turn("a", 0.0, 1.0)]}


@pytest.mark.parametrize("line", ["SPEAKER x 1 0.5 1.5", "SPEAKER x 1 soon 1.5 <NA> <NA> a"])
def test_broken_turn_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "rttm").write_text(rttm("x", [Turn("a", 0.0, 1.0)]) + line + "\n")
    with pytest.raises(ValueError, match=rf"rttm, line 2: not a SPEAKER line of RTTM: {line}$"):
        read_rttm(tmp_path / "rttm")
