# SPDX-License-Identifier: Apache-2.0
"""Pronouncing dictionaries: which line of which file counts, and what is refused."""

from pathlib import Path

import pytest

from wavlm_lightning.downstream.corpora.lexicon import PHONES, read, without


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "a.txt").write_text("THE\tDH AH0\nTHE\tDH IY0\nRED  R EH1 D\n\n")
    (tmp_path / "b.txt").write_text("red\tR IY1 D\nread R EH1 D\n")
    return [tmp_path / "a.txt", tmp_path / "b.txt"]


def test_the_phones_are_as_many_as_published() -> None:
    assert len(PHONES) == len(set(PHONES)) == 71
    assert {"SIL", "SPN", "AH0", "AH1", "AH2", "ZH"} <= set(PHONES)


def test_the_first_line_of_the_first_file_counts(files: list[Path]) -> None:
    assert read(files) == {
        "THE": ["DH", "AH0"],
        "RED": ["R", "EH1", "D"],
        "READ": ["R", "EH1", "D"],
    }


def test_words_of_none_are_found(files: list[Path]) -> None:
    assert without(["THE", "OWL", "OWL", "A"], read(files)) == ["A", "OWL"]


@pytest.mark.parametrize("line", ["OWL", "OWL AW L", "OWL AW1 X"])
def test_a_line_without_phones_or_with_other_ones_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.txt").write_text(f"THE DH AH0\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.txt, line 2: must be a word and ARPAbet phones"):
        read([tmp_path / "a.txt"])
