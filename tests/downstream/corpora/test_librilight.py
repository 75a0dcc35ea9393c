# SPDX-License-Identifier: Apache-2.0
"""Libri-Light's limited sets: which folders each of them is made of."""

from collections.abc import Callable
from pathlib import Path

import pytest

from wavlm_lightning.downstream.corpora.corpus import Recording
from wavlm_lightning.downstream.corpora.librilight import LibriLight

Record = Callable[..., Path]
PLACES = [*[f"1h/{part}/clean" for part in range(6)], "1h/0/other", "9h/clean", "9h/other"]


@pytest.fixture
def corpus(tmp_path: Path, record: Record) -> Path:
    """One utterance in each folder, spoken by the folder's number."""
    for speaker, place in enumerate(PLACES):
        name = f"{speaker}-1-0000"
        record(f"{place}/{speaker}/1/{name}.flac")
        (tmp_path / place / f"{speaker}/1/{speaker}-1.trans.txt").write_text(f"{name} WORD\n")
    return tmp_path


def of(corpus: Path, name: str) -> list[Recording]:
    return LibriLight(lambda _: corpus, {}).of(name, "train")


@pytest.mark.parametrize(
    ("split", "speakers"),
    [("10min", [0, 6]), ("1h", range(7)), ("10h", range(9))],
)
def test_a_set_is_made_of_its_folders(corpus: Path, split: str, speakers: range) -> None:
    found = of(corpus, split)
    assert [u.speaker for u in found] == [str(speaker) for speaker in speakers]
    assert all(u.path.is_file() for u in found)


def test_a_missing_part_is_named(corpus: Path) -> None:
    (corpus / "1h/3").rename(corpus / "1h/three")
    assert len(of(corpus, "10min")) == 2
    with pytest.raises(FileNotFoundError, match=r"paths\.librilight=.*at 1h/3/clean"):
        of(corpus, "1h")


def test_sets_of_librispeech_and_libri_light_stand_side_by_side(
    corpus: Path, record: Record
) -> None:
    record("dev-clean/7/1/7-1-0000.flac")
    (corpus / "dev-clean/7/1/7-1.trans.txt").write_text("7-1-0000 OTHER\n")
    sets = {"train": ["10min"], "dev": ["dev-clean"]}
    found = LibriLight(lambda _: corpus, sets).recordings()
    assert [(r.split, r.extra["set"], r.speaker) for r in found] == [
        ("train", "10min", "0"),
        ("train", "10min", "6"),
        ("dev", "dev-clean", "7"),
    ]
