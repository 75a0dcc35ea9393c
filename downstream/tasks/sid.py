# SPDX-License-Identifier: Apache-2.0
"""Speaker identification: which of the speakers that it was trained on is this?

Corpus     VoxCeleb1, official split of identification: all 1,251 speakers in train, dev and test
Head       mean over time between two linear layers
Loss       cross entropy, on random crops of eight seconds
Score      accuracy, higher is better
Source     SUPERB (Yang et al. 2021), task SID; values in configs/superb/sid.yaml
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from downstream.classification import Classification, ClassifierConfig, numbered
from downstream.corpora import manifest, voxceleb1
from downstream.corpora.lengths import usable
from downstream.task import Example, Item
from wavlm_lightning.audio import read_audio
from wavlm_lightning.fields import number
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.seeding import generator


@dataclass(frozen=True, kw_only=True)
class Config(ClassifierConfig):
    """Section `task`.

    Args:
        hidden: width between the two linear layers.
        max_seconds: longer utterances are cropped in training, at a place that is drawn anew.
    """

    max_seconds: float = number(0.1, 10**5)


class SID(Classification[Config]):
    """A closed set of speakers."""

    name, corpus, Config = "sid", "voxceleb1", Config

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._unknown = 0
        if self.sources.manifest is not None:
            splits = self._from_manifest(self.sources.manifest)
        else:
            splits = self._from_voxceleb(self.sources.folder("voxceleb1"))
        numbers = numbered([e.target for e in splits["train"]])
        self.classes = list(numbers)
        self._splits = {}
        for split, examples in splits.items():
            own = [e for e in examples if e.target in numbers]
            self._unknown += len(examples) - len(own)
            self._splits[split] = [
                Example(e.id, e.path, e.start, e.stop, numbers[e.target]) for e in own
            ]

    def _from_voxceleb(self, root: Path) -> dict[str, list[Example]]:
        found = {}
        for split, segments in voxceleb1.identification(root).items():
            lengths = self.sources.lengths([s.path for s in segments])
            found[split] = [
                Example(s.id, str(s.path), 0, length, s.speaker)
                for s, length in usable(segments, lengths)
            ]
        return found

    def _from_manifest(self, folder: Path) -> dict[str, list[Example]]:
        """`extra.sid_split`, or its splits if they share speakers, or a split of every speaker."""
        rows = manifest.read(folder, needs=("speaker",), lengths=self.sources.lengths)
        splits: dict[str, list[Example]] = {split: [] for split in manifest.SPLITS}
        own_splits: dict[str, list[Example]] = {split: [] for split in manifest.SPLITS}
        by_speaker: dict[str, list[Example]] = {}
        for row in rows:
            example = Example(row.id, str(row.path), 0, row.num_samples, row.speaker)
            splits[row.split].append(example)
            by_speaker.setdefault(row.speaker, []).append(example)
            if "sid_split" in row.extra:
                if (own := row.extra["sid_split"]) not in manifest.SPLITS:
                    raise ValueError(
                        f"{folder / manifest.NAME}: sid_split in extra of {row.id} is {own}, not "
                        "train, dev or test"
                    )
                own_splits[own].append(example)
        if all(own_splits.values()):
            return own_splits
        trained = {e.target for e in splits["train"]}
        if all({e.target for e in splits[split]} & trained for split in ("dev", "test")):
            return splits
        splits = {split: [] for split in manifest.SPLITS}
        for speaker, own in sorted(by_speaker.items()):
            for split, examples in _split(own, generator(0, "identification", *speaker.encode())):
                splits[split] += examples
        return splits

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


def _split(examples: list[Example], rng: np.random.Generator) -> list[tuple[str, list[Example]]]:
    """A recording each for dev and test; of a speaker with one or two, the last two fifths."""
    if len(examples) > 2:
        order = [examples[i] for i in rng.permutation(len(examples))]
        return [("train", order[2:]), ("dev", order[:1]), ("test", order[1:2])]
    parts: dict[str, list[Example]] = {"train": [], "dev": [], "test": []}
    for whole in examples:
        edges = [0, whole.num_samples * 3 // 5, whole.num_samples * 4 // 5, whole.num_samples]
        for (split, own), start, stop in zip(parts.items(), edges, edges[1:], strict=False):
            own.append(Example(f"{whole.id}-{split}", whole.path, start, stop, whole.target))
    return list(parts.items())
