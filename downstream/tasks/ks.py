# SPDX-License-Identifier: Apache-2.0
"""Keyword spotting: which of ten words, another one, or none?

Corpus     Speech Commands v0.01: ten words, unknown ones, silence; its own test set
Head       mean over time between two linear layers
Loss       cross entropy, classes drawn equally often
Score      accuracy, higher is better
Source     SUPERB (Yang et al. 2021), task KS; values in configs/superb/ks.yaml

Differs from s3prl: silence is cut from the background recordings at places that are drawn once, not
at every use, so that all features can be kept; dev is not drawn anew at every validation, its
accuracy is the mean over classes, which is what that draw expects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downstream.classification import Classification, ClassifierConfig, numbered
from downstream.corpora import manifest, speech_commands
from downstream.corpora.lengths import usable
from downstream.task import Example
from wavlm_lightning.fields import number, whole
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.seeding import generator


@dataclass(frozen=True, kw_only=True)
class Config(ClassifierConfig):
    """Section `task`.

    Args:
        hidden: width between the two linear layers.
        gain_db: on every recording.
        silences: pieces of a second from each background recording, for train and for dev.
    """

    gain_db: float = number(-200, 200)
    silences: int = whole(0, 10**6)


class KS(Classification[Config]):
    """Words of a closed set, everything else, and silence."""

    name, corpus, Config = "ks", "speech_commands", Config

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.gain_db = self.config.gain_db
        if self.sources.manifest is not None:
            rows = manifest.read(
                self.sources.manifest, needs=("label",), lengths=self.sources.lengths
            )
            numbers = numbered([row.label for row in rows])
            self._splits = {
                split: [
                    Example(r.id, str(r.path), 0, r.num_samples, numbers[r.label])
                    for r in manifest.rows_of(rows, split, self.sources.manifest)
                ]
                for split in manifest.SPLITS
            }
            self.classes = list(numbers)
            return
        self.classes = speech_commands.CLASSES
        root = self.sources.folder("speech_commands")
        self._splits = {}
        for split in manifest.SPLITS:
            clips = speech_commands.clips(root, split)
            lengths = self.sources.lengths([clip.path for clip in clips])
            self._splits[split] = [
                Example(c.id, str(c.path), 0, length, self.classes.index(c.label))
                for c, length in usable(clips, lengths)
            ]
        noise = speech_commands.background(root)
        lengths = self.sources.lengths(noise)
        for split in ("train", "dev"):
            for path, length in usable(noise, lengths):
                self._splits[split] += self._silences(split, str(path), path.stem, length)

    def _silences(self, split: str, path: str, name: str, length: int) -> list[Example]:
        rng = generator(0, f"silence {split}", *name.encode())
        starts = rng.integers(max(1, length - SAMPLE_RATE + 1), size=self.config.silences)
        label = self.classes.index(speech_commands.SILENCE)
        return [
            Example(f"{split}/{name}-{i}", path, start, min(start + SAMPLE_RATE, length), label)
            for i, start in enumerate(starts.tolist())
        ]

    def examples(self, split: str) -> Sequence[Example]:
        """Targets are numbers of classes."""
        return self._splits[split]

    def weights(self) -> NDArray[np.float64]:
        """Classes equally often, examples of a class equally often."""
        targets = np.array([e.target for e in self._splits["train"]])
        weights = 1 / np.bincount(targets, minlength=len(self.classes))[targets]
        return weights / weights.sum()

    def line(self, name: str, predicted: Any) -> str:
        """Folder and file are one name."""
        return super().line(name.replace("/", "-"), predicted)

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Percent of utterances; on dev the mean over classes."""
        if split == "test":
            return super().score(split, predictions)
        by_class: dict[int, list[bool]] = {}
        for target, predicted in predictions.values():
            by_class.setdefault(target, []).append(target == predicted)
        shares = [sum(right) / len(right) for right in by_class.values()]
        return {"accuracy": 100.0 * sum(shares) / len(shares)}
