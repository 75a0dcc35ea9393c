# SPDX-License-Identifier: Apache-2.0
"""Characters of transcripts: their numbers, there and back, and CTC's rule."""

import pytest

from wavlm_lightning.downstream.text.symbols import (
    BLANK,
    END,
    LETTERS,
    SPECIAL,
    UNKNOWN,
    Characters,
    collapse,
)


def test_vocabulary_has_the_published_symbols() -> None:
    symbols = Characters().symbols
    assert len(symbols) == len(set(symbols)) == len(Characters()) == 32


def test_special_symbols_come_first_in_fairseqs_order() -> None:
    assert Characters().symbols[:5] == ["<s>", "<pad>", "</s>", "<unk>", "|"]


def test_numbers_of_special_symbols_are_their_places() -> None:
    assert [SPECIAL[n] for n in (BLANK, END, UNKNOWN)] == ["<s>", "</s>", "<unk>"]


def test_every_english_letter_has_a_number() -> None:
    assert sorted(LETTERS) == sorted("ABCDEFGHIJKLMNOPQRSTUVWXYZ'|")


@pytest.mark.parametrize("text", ["IT IS", "DON'T STOP", "A", ""])
def test_decoding_undoes_encoding(text: str) -> None:
    characters = Characters()
    assert characters.decode(characters.encode(text)) == text


def test_case_and_spaces_of_a_transcript_do_not_matter() -> None:
    characters = Characters()
    assert characters.encode("  it\tis ") == characters.encode("IT IS")


def test_every_word_ends_with_a_word_end_and_the_text_with_an_end() -> None:
    characters = Characters()
    spelled = [characters.symbols[n] for n in characters.encode("a bc")]
    assert spelled == ["A", "|", "B", "C", "|", "</s>"]


def test_character_without_a_number_is_unknown() -> None:
    assert Characters().encode("É")[0] == UNKNOWN


def test_unknown_is_not_read_out() -> None:
    characters = Characters()
    assert characters.decode(characters.encode("CAFÉ")) == "CAF"


def test_further_characters_follow_in_their_own_order() -> None:
    assert Characters("ZÜ ÄA").symbols[32:] == ["Ä", "Ü"]


def test_text_in_further_characters_is_read_back() -> None:
    characters = Characters("GRÜN ÄPFEL")
    assert characters.decode(characters.encode("grün äpfel")) == "GRÜN ÄPFEL"


@pytest.mark.parametrize(
    ("path", "numbers"),
    [
        ([], []),
        ([0, 0], []),
        ([5, 5, 5], [5]),
        ([5, 0, 5], [5, 5]),
        ([0, 5, 6, 6, 0, 6], [5, 6, 6]),
    ],
)
def test_repeats_are_merged_before_blanks_go(path: list[int], numbers: list[int]) -> None:
    assert collapse(path) == numbers


def test_any_symbol_may_be_the_blank() -> None:
    assert collapse([0, 7, 0, 7, 7], blank=7) == [0, 0]
