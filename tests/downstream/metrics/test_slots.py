# SPDX-License-Identifier: Apache-2.0
"""Slots of texts, and the two figures on them, worked by hand."""

import pytest

from wavlm_lightning.downstream.metrics.slots import (
    slot_type_f1,
    slot_value_cer,
    slots_of,
    words_of,
)


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("", []),
        ("NOTHING HERE", []),
        ("B-a X E-a", [("a", "X")]),
        ("PLAY B-artist THE WHO E-artist NOW", [("artist", "THE WHO")]),
        ("B-a X E-a B-b Y Z E-b", [("a", "X"), ("b", "Y Z")]),
        ("B-a X E-a B-a Y E-a", [("a", "X"), ("a", "Y")]),
        ("B-a X", []),  # without an end
        ("B-a E-a", []),  # without a value
        ("X E-a", []),  # without a begin
        ("B-a X E-b", []),  # the end of another
        ("B-ab X E-a Y E-ab", [("ab", "X E-a Y")]),  # a mark within belongs to the value
        ("B-time X E-timeRange Y E-time", [("time", "X E-timeRange Y")]),
    ],
)
def test_slots_are_read_back(text: str, slots: list[tuple[str, str]]) -> None:
    assert slots_of(text) == slots


def test_words_are_what_is_between_marks() -> None:
    assert words_of("PLAY B-artist THE WHO E-artist B-x") == "PLAY THE WHO"


@pytest.mark.parametrize(
    ("reference", "hypothesis", "f1"),
    [
        ("X", "Y", 100.0),  # both empty
        ("B-a X E-a", "X", 0.0),  # one empty
        ("X", "B-a X E-a", 0.0),
        ("B-a X E-a", "B-a WRONG E-a", 100.0),  # values do not matter
        ("B-a X E-a", "B-b X E-b", 0.0),
        ("B-a X E-a B-b Y E-b", "B-a X E-a", 200 / 3),  # precision 1, recall 1/2
        ("B-a X E-a B-a Y E-a", "B-a X E-a", 100.0),  # a set: types count once
    ],
)
def test_type_f1_of_one_utterance(reference: str, hypothesis: str, f1: float) -> None:
    assert slot_type_f1([reference], [hypothesis]) == pytest.approx(f1)


def test_type_f1_is_the_mean_over_utterances() -> None:
    assert slot_type_f1(["X", "B-a X E-a", "B-a X E-a"], ["X", "X", "B-a X E-a"]) == pytest.approx(
        200 / 3
    )


@pytest.mark.parametrize(
    ("reference", "hypothesis", "cer"),
    [
        ("X", "B-a X E-a", 0.0),  # nothing to find
        ("B-a ABCD E-a", "B-a ABCD E-a", 0.0),
        ("B-a ABCD E-a", "ABCD", 100.0),  # a missing type counts the whole value
        ("B-a ABCD E-a", "B-b ABCD E-b", 100.0),
        ("B-a ABCD E-a", "B-a ABXD E-a", 25.0),
        ("B-a AB CD E-a", "B-a ABCD E-a", 20.0),  # the blank counts
        ("B-a AB E-a", "B-a ABCDEF E-a", 200.0),  # more than all of it
        ("B-a AB E-a", "B-a XY E-a B-a AB E-a", 0.0),  # the nearest of its type
        ("B-a AB E-a B-a CD E-a", "B-a AB E-a", 50.0),  # each against the nearest
    ],
)
def test_value_cer_of_one_utterance(reference: str, hypothesis: str, cer: float) -> None:
    assert slot_value_cer([reference], [hypothesis]) == pytest.approx(cer)


def test_value_cer_sums_edits_and_characters_over_utterances() -> None:
    references = ["B-a ABCDEF E-a", "B-a XY E-a", "NONE"]
    hypotheses = ["B-a ABCDEF E-a", "NONE", "B-a LONG E-a"]
    assert slot_value_cer(references, hypotheses) == pytest.approx(100 * 2 / 8)
