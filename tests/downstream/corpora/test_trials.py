# SPDX-License-Identifier: Apache-2.0
"""Trials of all pairs: none within a session, as many of each kind as asked for."""

from pathlib import Path

import pytest

from wavlm_lightning.downstream.corpora.corpus import Recording, Trial
from wavlm_lightning.downstream.corpora.trials import all_trials, halves


def recording(name: str, speaker: str, session: str | None = None) -> Recording:
    extra = {} if session is None else {"session": session}
    return Recording(name, Path(name), "test", speaker=speaker, extra=extra, stop=1_000)


def test_all_pairs_are_trials() -> None:
    rows = [recording("a1", "ann"), recording("b1", "bob"), recording("a2", "ann")]
    assert all_trials(rows, most=9) == [
        Trial(True, "a1", "a2"),
        Trial(False, "a1", "b1"),
        Trial(False, "a2", "b1"),
    ]


def test_recordings_of_one_session_make_no_trial() -> None:
    rows = [recording(f"a{i}", "ann", session) for i, session in enumerate("xxy")]
    found = all_trials([*rows, recording("b", "bob")], most=9)
    assert [t for t in found if t.same] == [Trial(True, "a0", "a2"), Trial(True, "a1", "a2")]


def test_at_most_so_many_of_each_kind_are_drawn_the_same_each_time() -> None:
    rows = [recording(f"{s}{i}", s) for s in "abc" for i in range(6)]
    found = all_trials(rows, most=5)
    assert [t.same for t in found] == [True] * 5 + [False] * 5
    assert found == all_trials(rows[::-1], most=5)
    assert len(set(found)) == 10


def test_both_kinds_are_needed() -> None:
    with pytest.raises(ValueError, match="split test has 0 pairs of one speaker and 1 of two"):
        all_trials([recording("a", "ann"), recording("b", "bob")], most=9)


def test_halves_share_nothing_and_leave_nothing() -> None:
    first, second = halves([recording("a", "ann")])
    assert (first.id, first.start, first.stop) == ("a.1", 0, 500)
    assert (second.id, second.start, second.stop) == ("a.2", 500, 1_000)
