# SPDX-License-Identifier: Apache-2.0
"""Two-speaker mixtures made from recordings of one speaker each, for corpora without mixtures.

A draw is a pure function of the generator it is given.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_lightning.audio import read_audio
from wavlm_lightning.downstream.corpora.corpus import Recording
from wavlm_lightning.downstream.metrics.der import Turn
from wavlm_lightning.lengths import SAMPLE_RATE

LEVEL_DB = 5.0  # the second speaker is up to this much louder or softer than the first
WINDOW = 320  # samples, 20 ms: what speech is told from silence in
BELOW_PEAK_DB = 35.0  # softer windows are silence
SHORTEST_PAUSE = 10  # windows, 0.2 s: shorter ones belong to the speech around them


def check_speakers(rows: Sequence[Recording]) -> None:
    """Refuse recordings of a split of which no mixture can be made.

    Raises:
        ValueError: if all are of one speaker.
    """
    speakers = {row.speaker for row in rows}
    if len(speakers) < 2:
        raise ValueError(
            f"mixtures need two speakers, all {len(rows)} rows of {rows[0].split} are of "
            f"{', '.join(speakers)}"
        )


def partner(rows: Sequence[Recording], index: int, rng: np.random.Generator) -> Recording:
    """Another speaker's recording."""
    others = [row for row in rows if row.speaker != rows[index].speaker]
    return others[int(rng.integers(len(others)))]


def at_level(waveform: Tensor, reference: Tensor, rng: np.random.Generator) -> Tensor:
    """The waveform (T,) at the reference's energy, more or less a few dB.

    Args:
        waveform: (T,) samples.
        reference: (T',) samples, whose mean energy is taken.
        rng: Generator of the difference in level.
    """
    drawn = float(rng.uniform(-LEVEL_DB, LEVEL_DB))
    energy = float(waveform.square().mean().clamp(min=1e-12))
    gain = (float(reference.square().mean()) / energy) ** 0.5 * 10 ** (drawn / 20)
    return waveform * gain


def separated(
    rows: Sequence[Recording], index: int, rng: np.random.Generator, *, max_samples: int
) -> Tensor:
    """Sources (2, T), as long as the shorter one: the row's speaker and another."""
    other = partner(rows, index, rng)
    length = min(rows[index].num_samples, other.num_samples, max_samples)
    first = read_audio(rows[index].path, 0, length)
    second = at_level(read_audio(other.path, 0, length), first, rng)
    sources = torch.stack([first, second])
    # Both by one factor, so that their ratio stays; the sum must fit into 16 bits.
    return sources * min(1.0, 0.95 / float(sources.sum(0).abs().max().clamp(min=1e-6)))


def conversation(
    rows: Sequence[Recording], index: int, rng: np.random.Generator, *, max_samples: int
) -> tuple[Tensor, list[Turn]]:
    """A waveform (T,) of two speakers who overlap in part, and who speaks when.

    The second begins somewhere within the first, or shortly after it. Times of speech are those of
    windows above a threshold: an estimate, where a corpus has alignments.
    """
    other = partner(rows, index, rng)
    most = round(0.7 * max_samples)
    first = read_audio(rows[index].path, 0, min(rows[index].num_samples, most))
    second = read_audio(other.path, 0, min(other.num_samples, most))
    second = at_level(second, first, rng)
    # From a fifth of the first speaker to a little after: overlap, or a pause.
    start = int(rng.uniform(0.2, 1.1) * len(first))
    length = min(max(len(first), start + len(second)), max_samples)
    mixture = torch.zeros(length)
    turns: list[Turn] = []
    for name, waveform, offset in (("a", first, 0), ("b", second, start)):
        part = waveform[: length - offset]
        mixture[offset : offset + len(part)] += part
        for begin, end in speech(part.numpy()):
            at = (offset + begin) / SAMPLE_RATE, (offset + end) / SAMPLE_RATE
            turns.append(Turn(name, *at))
    peak = float(mixture.abs().max().clamp(min=1e-6))
    return mixture * min(1.0, 0.95 / peak), sorted(turns, key=lambda turn: turn.start)


def speech(waveform: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Stretches of speech in samples: windows within 35 dB of the loudest, short pauses filled."""
    count = len(waveform) // WINDOW
    energy = np.square(waveform[: count * WINDOW].reshape(count, WINDOW)).mean(1)
    loud = energy > energy.max(initial=0.0) * 10 ** (-BELOW_PEAK_DB / 10)
    edges = np.flatnonzero(np.diff(loud.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    merged: list[list[int]] = []
    for begin, end in edges.tolist():
        if merged and begin - merged[-1][1] < SHORTEST_PAUSE:
            merged[-1][1] = end
        else:
            merged.append([begin, end])
    return [(begin * WINDOW, end * WINDOW) for begin, end in merged]
