# SPDX-License-Identifier: Apache-2.0
"""Libri-Light's limited sets: which folders each of them is made of."""

from collections.abc import Callable
from pathlib import Path

import pytest

from downstream.corpora.librilight import utterances

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


@pytest.mark.parametrize(
    ("split", "speakers"),
    [("10min", [0, 6]), ("1h", range(7)), ("10h", range(9))],
)
def test_a_set_is_made_of_its_folders(corpus: Path, split: str, speakers: range) -> None:
    found = utterances(corpus, split)
    assert [u.speaker for u in found] == [str(speaker) for speaker in speakers]
    assert all(u.path.is_file() for u in found)


def test_a_missing_part_is_named(corpus: Path) -> None:
    (corpus / "1h/3").rename(corpus / "1h/three")
    assert len(utterances(corpus, "10min")) == 2
    with pytest.raises(FileNotFoundError, match=r"paths\.librilight=.*at 1h/3/clean"):
        utterances(corpus, "1h")
