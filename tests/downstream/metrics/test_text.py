# SPDX-License-Identifier: Apache-2.0
"""Word and character error rates: against jiwer's own, and where a reference is empty."""

import jiwer
import numpy as np
import pytest

from wavlm_lightning.downstream.metrics.text import (
    character_error_rate,
    word_error_rate,
    word_errors,
)

WORDS = "A AN BE BED CAN CANE 'TIS IT ITS".split()


def sentences(seed: int, *, shortest: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(shortest, 8))) for _ in range(6)]


def test_word_error_rate_equals_jiwers() -> None:
    pairs = [(sentences(i, shortest=1), sentences(1000 + i, shortest=0)) for i in range(50)]
    ours = [word_error_rate(*pair) for pair in pairs]
    assert ours == pytest.approx([100 * jiwer.wer(*pair) for pair in pairs])


def test_character_error_rate_equals_jiwers() -> None:
    pairs = [(sentences(i, shortest=1), sentences(1000 + i, shortest=0)) for i in range(50)]
    ours = [character_error_rate(*pair) for pair in pairs]
    assert ours == pytest.approx([100 * jiwer.cer(*pair) for pair in pairs])


def test_word_errors_are_the_edits_of_one_utterance() -> None:
    # One substituted, one deleted, two inserted.
    assert word_errors("A B C D E", "A X C E F G") == 4


def test_edits_are_summed_before_they_are_divided() -> None:
    # One of five words is wrong; the mean of the utterances' own rates would be 50 %.
    assert word_error_rate(["A", "B C D E"], ["X", "B C D E"]) == 20.0


def test_words_of_an_empty_reference_are_insertions() -> None:
    assert word_error_rate(["", "A B C D"], ["X Y", "A B C D"]) == 50.0


def test_empty_reference_and_hypothesis_are_no_error() -> None:
    assert word_error_rate(["", "A B"], ["", "A B"]) == 0.0


def test_spaces_count_as_characters() -> None:
    assert character_error_rate(["AB C"], ["ABC"]) == 25.0


@pytest.mark.parametrize("rate", [word_error_rate, character_error_rate])
def test_references_without_a_symbol_are_refused(rate: object) -> None:
    assert callable(rate)
    with pytest.raises(ValueError, match="at least one symbol of reference"):
        rate(["", ""], ["A", ""])


def test_lists_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        word_error_rate(["A", "B"], ["A"])
