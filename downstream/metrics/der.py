# SPDX-License-Identifier: Apache-2.0
"""Diarization: activities to segments, and their error rate by pyannote.metrics.

No collar, overlapped speech scored, as SUPERB does (s3prl ec8064b5, downstream/diarization).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Turn(NamedTuple):
    """A stretch in which one speaker speaks."""

    speaker: str
    start: float  # seconds
    stop: float


def activity(turns: Sequence[Turn], *, num_frames: int, hop_seconds: float) -> NDArray[np.bool_]:
    """(F, S) true where a speaker speaks, speakers in order of their names.

    >>> activity([Turn("a", 0.0, 0.04), Turn("b", 0.02, 0.06)], num_frames=3, hop_seconds=0.02).T
    array([[ True,  True, False],
           [False,  True,  True]])
    """
    speakers = sorted({turn.speaker for turn in turns})
    active = np.zeros((num_frames, len(speakers)), bool)
    for turn in turns:
        first, last = (round(t / hop_seconds) for t in (turn.start, turn.stop))
        active[first:last, speakers.index(turn.speaker)] = True
    return active


def median_filter(active: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Majority over `width` (odd) frames around each of (F, S); outside there is silence."""
    if width == 1:
        return active
    padded = np.pad(active.astype(np.int32), ((width // 2, width // 2), (0, 0)))
    sums = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0)
    return (sums[width:] - sums[:-width]) > width // 2


def turns_of(active: NDArray[np.bool_], *, hop_seconds: float, end: float) -> list[Turn]:
    """Segments of (F, S) activity, speakers named by their column, none beyond `end` seconds."""
    turns = []
    for column in range(active.shape[1]):
        edges = np.flatnonzero(np.diff(active[:, column].astype(np.int8), prepend=0, append=0))
        for first, last in edges.reshape(-1, 2).tolist():
            start, stop = first * hop_seconds, min(last * hop_seconds, end)
            if start < stop:
                turns.append(Turn(str(column), start, stop))
    return sorted(turns, key=lambda turn: (turn.start, turn.speaker))


def diarization_error_rate(
    references: Mapping[str, Sequence[Turn]],
    hypotheses: Mapping[str, Sequence[Turn]],
    durations: Mapping[str, float],
) -> float:
    """Percent: missed, false and confused speech over reference speech, summed over recordings.

    Args:
        references: turns by recording.
        hypotheses: turns by recording, under any names of speakers.
        durations: seconds of each recording; all of it is scored.
    """
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    def annotation(turns: Sequence[Turn]) -> Annotation:
        out = Annotation()
        for i, turn in enumerate(turns):
            if turn.stop > turn.start:
                out[Segment(turn.start, turn.stop), i] = turn.speaker
        return out.support()  # turns of one speaker that overlap are one

    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    for name, turns in references.items():
        whole = Timeline([Segment(0.0, durations[name])])
        metric(annotation(turns), annotation(hypotheses[name]), uem=whole)
    return 100.0 * float(abs(metric))
