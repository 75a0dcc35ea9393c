# SPDX-License-Identifier: Apache-2.0
"""Verification trials of recordings for which none are published."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from wavlm_lightning.downstream.corpora.corpus import Recording, Trial
from wavlm_lightning.seeding import generator


def all_trials(recordings: Sequence[Recording], *, most: int) -> list[Trial]:
    """Trials of all pairs, at most so many of one speaker and so many of two, drawn at random.

    Two recordings of one `session` in `extra` make no trial: they have the channel in common.

    Args:
        recordings: Of one split.
        most: Trials of each kind.

    Raises:
        ValueError: if there is no trial of one kind.
    """
    of = {r.id: (r.speaker, r.extra.get("session", r.id)) for r in recordings}
    same, different = [], []
    for a, b in combinations(sorted(of), 2):
        if of[a][0] != of[b][0]:
            different.append(Trial(False, a, b))
        elif of[a][1] != of[b][1]:
            same.append(Trial(True, a, b))
    if not same or not different:
        raise ValueError(
            f"split {recordings[0].split} has {len(same)} pairs of one speaker and "
            f"{len(different)} of two, both are needed: two recordings each of two speakers or more"
        )
    rng = generator(0, "trials", len(of))  # the same ones for every seed
    drawn = []
    for kind in (same, different):
        order = rng.permutation(len(kind))[:most]
        drawn += [kind[i] for i in np.sort(order)]
    return drawn


def halves(recordings: Sequence[Recording]) -> list[Recording]:
    """Both halves of each recording."""
    found = []
    for r in recordings:
        middle = r.start + r.num_samples // 2
        found.append(replace(r, id=f"{r.id}.1", stop=middle))
        found.append(replace(r, id=f"{r.id}.2", start=middle))
    return found
