# SPDX-License-Identifier: Apache-2.0
"""Libri-Light's limited supervision: ten minutes, one hour and ten hours of LibriSpeech.

Layout: `1h/<0-5>/<clean|other>/<speaker>/<chapter>` and `9h/<clean|other>/<speaker>/<chapter>`,
each chapter as in LibriSpeech (Kahn et al. 2020; librispeech_finetuning.tgz). The first of the six
parts of the hour are the ten minutes; ten hours are both folders.
"""

from pathlib import Path

from downstream.corpora import librispeech
from downstream.corpora.lengths import Lengths, audio_lengths

PARTS = {"10min": ["1h/0"], "1h": [f"1h/{part}" for part in range(6)]}
PARTS["10h"] = [*PARTS["1h"], "9h"]


def utterances(
    root: Path, split: str, *, lengths: Lengths = audio_lengths
) -> list[librispeech.Utterance]:
    """All of 10min, 1h or 10h, sorted by id.

    Raises:
        FileNotFoundError: if a part is missing.
        ValueError: for a transcript without words.
    """
    found = []
    for part in PARTS[split]:
        kinds = [kind for kind in ("clean", "other") if (root / part / kind).is_dir()]
        for kind in kinds or ["clean"]:
            found += librispeech.utterances(
                root, f"{part}/{kind}", key="librilight", lengths=lengths
            )
    return sorted(found, key=lambda u: u.id)
