# SPDX-License-Identifier: Apache-2.0
"""Keyword spotting: which of ten words, another one, or none?

Corpus     Speech Commands v0.01: ten words, unknown ones, silence; its own test set
Head       mean over time between two linear layers
Loss       cross entropy, classes drawn equally often
Score      accuracy, higher is better
Source     SUPERB (Yang et al. 2021), task KS; values in configs/superb/ks.yaml

Differs from s3prl: silence is cut from the background recordings at places that are drawn once, not
at every use, so that all features can be kept; dev is not redrawn at every validation, its
accuracy is the mean over classes, which is what that draw expects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavlm_lightning.downstream.corpora.corpus import Corpus, by_split
from wavlm_lightning.downstream.corpora.speech_commands import SpeechCommands
from wavlm_lightning.downstream.families.classification import (
    Classification,
    ClassifierConfig,
    numbered,
)
from wavlm_lightning.downstream.task import Example, example_of
from wavlm_lightning.fields import number, whole


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
    needs = ("label",)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        corpus = self.open_corpus()
        found = by_split(self.read(corpus), self.splits, corpus)
        labels = [r.label for own in found.values() for r in own]
        numbers = {c: i for i, c in enumerate(corpus.classes)} or numbered(labels)
        self.classes = list(numbers)
        self._splits = {
            split: [example_of(r, numbers[r.label]) for r in own] for split, own in found.items()
        }

    @property
    def gain_db(self) -> float:
        """Gain of the protocol."""
        return self.config.gain_db

    def official(self) -> Corpus:
        """Words, and silence cut from the background recordings."""
        return SpeechCommands(
            self.sources.folder("speech_commands"),
            silences=self.config.silences,
            lengths=self.sources.lengths,
        )

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
