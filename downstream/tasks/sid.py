# SPDX-License-Identifier: Apache-2.0
"""Speaker identification: which of the speakers that it was trained on is this?

Corpus     VoxCeleb1, official split of identification: all 1,251 speakers in train, dev and test
Head       mean over time between two linear layers
Loss       cross entropy, on random crops of eight seconds
Score      accuracy, higher is better
Source     SUPERB (Yang et al. 2021), task SID; values in configs/superb/sid.yaml
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wavlm_lightning.audio import read_audio
from wavlm_lightning.downstream.corpora import voxceleb1
from wavlm_lightning.downstream.corpora.corpus import SPLITS, Corpus, Recording
from wavlm_lightning.downstream.families.classification import (
    Classification,
    ClassifierConfig,
    numbered,
)
from wavlm_lightning.downstream.task import Example, Item, example_of
from wavlm_lightning.fields import number
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.seeding import generator


@dataclass(frozen=True, kw_only=True)
class Config(ClassifierConfig):
    """Section `task`.

    Args:
        hidden: width between the two linear layers.
        max_seconds: longer utterances are cropped in training, at a random place each time.
    """

    max_seconds: float = number(0.1, 10**5)


class SID(Classification[Config]):
    """A closed set of speakers."""

    name, corpus, Config = "sid", "voxceleb1", Config
    needs = ("speaker",)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._unknown = 0
        splits = _splits(self.read(self.open_corpus()))
        numbers = numbered([r.speaker for r in splits["train"]])
        self.classes = list(numbers)
        self._splits = {}
        for split, found in splits.items():
            known = [r for r in found if r.speaker in numbers]
            self._unknown += len(found) - len(known)
            self._splits[split] = [example_of(r, numbers[r.speaker]) for r in known]

    def official(self) -> Corpus:
        """The official split of identification."""
        return voxceleb1.Identification(self.sources.folder("voxceleb1"))

    def examples(self, split: str) -> Sequence[Example]:
        """Targets are numbers of speakers."""
        return self._splits[split]

    def excluded_counts(self) -> dict[str, float]:
        """Utterances of dev and test whose speaker is not in train."""
        return {"utterances_of_unknown_speakers": self._unknown}

    def line(self, name: str, predicted: Any) -> str:
        """Speaker, video and segment are one name."""
        return super().line(voxceleb1.joined(name), predicted)

    def load(self, example: Example, rng: np.random.Generator | None) -> Item:
        """A random crop in training, whole otherwise."""
        start, stop = example.start, example.stop
        if rng is not None and self._is_cropped(example):
            most = round(self.config.max_seconds * SAMPLE_RATE)
            start += int(rng.integers(example.num_samples - most + 1))
            stop = start + most
        return Item(read_audio(example.path, start, stop), example.target)

    def key(self, example: Example, *, training: bool) -> str | None:
        """None where a crop is drawn."""
        if training and self._is_cropped(example):
            return None
        return super().key(example, training=training)

    def _is_cropped(self, example: Example) -> bool:
        return example.num_samples > self.config.max_seconds * SAMPLE_RATE


def _splits(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    """`sid_split` of `extra`, or the splits there are if they share speakers, or new ones.

    Raises:
        ValueError: naming a recording whose sid_split is none.
    """
    chosen: dict[str, list[Recording]] = {split: [] for split in SPLITS}
    given: dict[str, list[Recording]] = {split: [] for split in SPLITS}
    by_speaker: dict[str, list[Recording]] = {}
    for r in recordings:
        given[r.split].append(r)
        by_speaker.setdefault(r.speaker, []).append(r)
        if "sid_split" in r.extra:
            if (split := r.extra["sid_split"]) not in SPLITS:
                raise ValueError(
                    f"{r.where}: sid_split in extra of {r.id} is {split}, not train, dev or test"
                )
            chosen[split].append(r)
    if all(chosen.values()):
        return chosen
    # Splits by speaker, as other tasks need them, leave nobody to identify: each is split anew.
    trained = {r.speaker for r in given["train"]}
    if all({r.speaker for r in given[split]} & trained for split in ("dev", "test")):
        return given
    new: dict[str, list[Recording]] = {split: [] for split in SPLITS}
    for speaker, found in sorted(by_speaker.items()):
        for split, part in _split(found, generator(0, "identification", *speaker.encode())):
            new[split] += part
    return new


def _split(
    recordings: list[Recording], rng: np.random.Generator
) -> list[tuple[str, list[Recording]]]:
    """A recording each for dev and test; of a speaker with one or two, the last two fifths."""
    if len(recordings) > 2:
        order = [recordings[i] for i in rng.permutation(len(recordings))]
        return [("train", order[2:]), ("dev", order[:1]), ("test", order[1:2])]
    parts: dict[str, list[Recording]] = {split: [] for split in SPLITS}
    for r in recordings:
        edges = [0, r.num_samples * 3 // 5, r.num_samples * 4 // 5, r.num_samples]
        for (split, own), start, stop in zip(parts.items(), edges, edges[1:], strict=False):
            own.append(replace(r, id=f"{r.id}-{split}", start=start, stop=stop))
    return list(parts.items())
