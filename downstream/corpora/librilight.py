# SPDX-License-Identifier: Apache-2.0
"""Libri-Light's limited supervision: ten minutes, one hour and ten hours of LibriSpeech.

Layout: `1h/<0-5>/<clean|other>/<speaker>/<chapter>` and `9h/<clean|other>/<speaker>/<chapter>`,
each chapter as in LibriSpeech (Kahn et al. 2020; librispeech_finetuning.tgz). The first of the six
parts of the hour are the ten minutes; ten hours are both folders.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wavlm_lightning.downstream.corpora.corpus import Recording
from wavlm_lightning.downstream.corpora.librispeech import LibriSpeech, utterances

PARTS = {"10min": ["1h/0"], "1h": [f"1h/{part}" for part in range(6)]}
PARTS["10h"] = [*PARTS["1h"], "9h"]


class LibriLight(LibriSpeech):
    """LibriSpeech, some of whose sets may be 10min, 1h or 10h of Libri-Light.

    Args:
        folder: Gives the root of `librispeech` and, where a set is of it, of `librilight`.
        sets: Names of sets by split.
    """

    def __init__(self, folder: Callable[[str], Path], sets: Mapping[str, Sequence[str]]):
        super().__init__(folder("librispeech"), sets)
        self.folder = folder

    def of(self, name: str, split: str) -> list[Recording]:
        """All of one set, sorted by id.

        Raises:
            FileNotFoundError: if a part is missing.
            ValueError: for a transcript without words.
        """
        if name not in PARTS:
            return super().of(name, split)
        root, found = self.folder("librilight"), []
        for part in PARTS[name]:
            kinds = [kind for kind in ("clean", "other") if (root / part / kind).is_dir()]
            for kind in kinds or ["clean"]:
                found += utterances(
                    root, f"{part}/{kind}", split=split, named=name, key="librilight"
                )
        return sorted(found, key=lambda r: r.id)
