# SPDX-License-Identifier: Apache-2.0
"""Diarization error rate by brute force over event boundaries; activities, turns and filters."""

from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations

import numpy as np
import pytest
from scipy import ndimage

from wavlm_lightning.downstream.metrics.der import (
    Turn,
    activity,
    diarization_error_rate,
    median_filter,
    turns_of,
)

Recordings = Mapping[str, Sequence[Turn]]
SECONDS = 10.0


def random_turns(rng: np.random.Generator, speakers: Sequence[str], *, last: float) -> list[Turn]:
    """Up to four turns of each speaker; speakers overlap, a speaker's own turns do not."""
    return [
        Turn(name, float(start), float(stop))
        for name in speakers
        for start, stop in np.sort(rng.uniform(0, last, 2 * rng.integers(1, 5))).reshape(-1, 2)
    ]


def random_case(seed: int) -> tuple[Recordings, Recordings, dict[str, float]]:
    """Two recordings of two speakers, of whom one to three are found, some beyond the end."""
    rng = np.random.default_rng(seed)
    references = {name: random_turns(rng, ("a", "b"), last=SECONDS) for name in ("x", "y")}
    hypotheses = {
        name: random_turns(rng, ("0", "1", "2")[: rng.integers(1, 4)], last=SECONDS + 2)
        for name in references
    }
    return references, hypotheses, {"x": SECONDS, "y": SECONDS}


def errors(reference: Sequence[Turn], hypothesis: Sequence[Turn], seconds: float) -> float:
    """Seconds missed, false and confused, under the best pairing of speakers."""
    times = {t for turn in (*reference, *hypothesis) for t in turn[1:] if t < seconds}
    edges = sorted({0.0, seconds, *times})
    speakers = sorted({turn.speaker for turn in reference})
    found: list[str | None] = sorted({turn.speaker for turn in hypothesis})
    costs = []
    for chosen in permutations(found + [None] * len(speakers), len(speakers)):
        named = dict(zip(chosen, speakers, strict=True))
        cost = 0.0
        for start, stop in pairwise(edges):
            right, heard = (
                {turn.speaker for turn in turns if turn.start <= start < turn.stop}
                for turns in (reference, hypothesis)
            )
            correct = len(right & {named.get(speaker) for speaker in heard})
            missed, false = len(right) - len(heard), len(heard) - len(right)
            confused = min(len(right), len(heard)) - correct
            cost += (max(missed, 0) + max(false, 0) + confused) * (stop - start)
        costs.append(cost)
    return min(costs)


def brute_force(references: Recordings, hypotheses: Recordings, seconds: dict[str, float]) -> float:
    wrong = sum(errors(turns, hypotheses[n], seconds[n]) for n, turns in references.items())
    speech = sum(turn.stop - turn.start for turns in references.values() for turn in turns)
    return 100 * wrong / speech


def test_der_matches_brute_force() -> None:
    cases = [random_case(seed) for seed in range(100)]
    ours = [diarization_error_rate(*case) for case in cases]
    assert ours == pytest.approx([brute_force(*case) for case in cases], rel=0, abs=1e-6)


def test_der_of_a_case_worked_by_hand() -> None:
    reference = [Turn("a", 0, 4), Turn("b", 3, 6)]
    hypothesis = [Turn("1", 1, 5), Turn("0", 5, 8)]
    # 0-1 missed, 3-4 one of two missed, 4-5 confused, 6-8 false: 5 s of 7 s of speech.
    rate = diarization_error_rate({"r": reference}, {"r": hypothesis}, {"r": 10.0})
    assert rate == pytest.approx(100 * 5 / 7)


def test_names_of_speakers_do_not_matter() -> None:
    references, hypotheses, seconds = random_case(0)
    renamed = {
        name: [turn._replace(speaker={"0": "b", "1": "a"}.get(turn.speaker, "c")) for turn in turns]
        for name, turns in hypotheses.items()
    }
    assert diarization_error_rate(references, renamed, seconds) == pytest.approx(
        diarization_error_rate(references, hypotheses, seconds)
    )


def test_reference_against_itself_has_no_error() -> None:
    references, _, seconds = random_case(1)
    assert diarization_error_rate(references, references, seconds) == pytest.approx(0.0)


def test_silence_misses_all_speech() -> None:
    references, _, seconds = random_case(2)
    silence: Recordings = {name: [] for name in references}
    assert diarization_error_rate(references, silence, seconds) == pytest.approx(100.0)


def test_errors_are_summed_before_they_are_divided() -> None:
    references = {"x": [Turn("a", 0, 1)], "y": [Turn("a", 0, 3)]}
    hypotheses: Recordings = {"x": [], "y": references["y"]}
    rate = diarization_error_rate(references, hypotheses, {"x": 4.0, "y": 4.0})
    assert rate == pytest.approx(25.0)


def test_speech_beyond_the_end_does_not_count() -> None:
    rate = diarization_error_rate({"r": [Turn("a", 0, 4)]}, {"r": [Turn("0", 0, 9)]}, {"r": 5.0})
    assert rate == pytest.approx(25.0)


def test_turns_of_one_speaker_that_overlap_are_one() -> None:
    reference = {"r": [Turn("a", 0, 3), Turn("a", 2, 4)]}
    rate = diarization_error_rate(reference, {"r": [Turn("0", 0, 4)]}, {"r": 5.0})
    assert rate == pytest.approx(0.0)


@pytest.mark.parametrize("width", [1, 3, 11, 31])
def test_median_filter_matches_scipy(width: int) -> None:
    active = np.random.default_rng(width).random((200, 2)) < 0.5
    active[:4] = True  # the edge, beyond which there is silence
    wanted = ndimage.median_filter(active.astype(int), size=(width, 1), mode="constant", cval=0)
    np.testing.assert_array_equal(median_filter(active, width), wanted.astype(bool))


def test_median_filter_may_be_wider_than_the_recording() -> None:
    active = np.ones((4, 1), bool)
    wanted = ndimage.median_filter(active.astype(int), size=(7, 1), mode="constant", cval=0)
    np.testing.assert_array_equal(median_filter(active, 7), wanted.astype(bool))


def test_activity_rounds_times_to_the_nearest_frame() -> None:
    turns = [Turn("a", 0.029, 0.071), Turn("b", 0.031, 0.069)]
    active = activity(turns, num_frames=5, hop_seconds=0.02)
    assert active.T.astype(int).tolist() == [[0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]


def test_activity_ends_with_the_frames() -> None:
    active = activity([Turn("a", 0.02, 9.0)], num_frames=3, hop_seconds=0.02)
    assert active[:, 0].tolist() == [False, True, True]


@pytest.mark.parametrize("hop_seconds", [0.02, 0.01])
def test_activity_of_the_turns_of_an_activity_is_the_same(hop_seconds: float) -> None:
    active = np.random.default_rng(0).random((999, 2)) < 0.5
    turns = turns_of(active, hop_seconds=hop_seconds, end=999 * hop_seconds)
    again = activity(turns, num_frames=999, hop_seconds=hop_seconds)
    np.testing.assert_array_equal(again, active)


def test_turns_are_sorted_by_their_start() -> None:
    active = np.random.default_rng(0).random((50, 2)) < 0.5
    turns = turns_of(active, hop_seconds=0.02, end=1.0)
    assert turns == sorted(turns, key=lambda turn: turn.start)


def test_turn_that_reaches_beyond_the_end_is_cut() -> None:
    assert turns_of(np.ones((5, 1), bool), hop_seconds=0.02, end=0.09) == [Turn("0", 0.0, 0.09)]


def test_turn_that_begins_beyond_the_end_is_left_out() -> None:
    active = np.array([[True], [False], [False], [True]])
    assert turns_of(active, hop_seconds=0.02, end=0.05) == [Turn("0", 0.0, 0.02)]
