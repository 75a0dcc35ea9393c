# SPDX-License-Identifier: Apache-2.0
"""Tasks on two speakers at once: recorded mixtures, or ones made of single speakers.

A corpus whose recordings have, in `extra`, what the task asks for is used as it is. Of any other
one mixtures are made, from a recording and another speaker's: in training at each use anew.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from wavlm_lightning.downstream.corpora.corpus import Recording, by_split
from wavlm_lightning.downstream.corpora.simulate import check_speakers
from wavlm_lightning.downstream.task import Example, Item, TaskConfig
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.seeding import generator

C = TypeVar("C", bound=TaskConfig)


class Draw(NamedTuple):
    """Target of an example that is a mixture to be made."""

    split: str
    first: int  # place in the split of the recording that it begins with


class Mixtures(TrainedTask[C]):
    """Reads mixtures, or makes them; subclasses say what is recorded and how one is made."""

    field: ClassVar[str]  # in `extra` of a recorded mixture

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        corpus = self.open_corpus()
        self._rows = by_split(self.read(corpus), self.splits, corpus)
        every = [r for rows in self._rows.values() for r in rows]
        lacking = [r for r in every if self.field not in r.extra]
        if lacking and len(lacking) < len(every):
            raise ValueError(
                f"{lacking[0].where}: {lacking[0].id} has no {self.field} in extra, as "
                f"{len(every) - len(lacking)} of {len(every)} recordings have: all must, or none"
            )
        if not lacking:
            self._splits = {split: self.recorded(split, own) for split, own in self._rows.items()}
            return
        if unnamed := [r for r in every if not r.speaker]:
            raise ValueError(
                f"{unnamed[0].where}: speaker is empty, and there are no {self.field} in extra: "
                "mixtures are made from recordings of known speakers"
            )
        for rows in self._rows.values():
            check_speakers(rows)
        self._splits = {
            split: [self._example(r, Draw(split, i)) for i, r in enumerate(rows)]
            for split, rows in self._rows.items()
        }

    def _example(self, recording: Recording, draw: Draw) -> Example:
        length = min(recording.num_samples, self.max_samples)
        return Example(recording.id, str(recording.path), 0, length, draw)

    @property
    @abstractmethod
    def max_samples(self) -> int:
        """The longest mixture that is made."""

    @abstractmethod
    def recorded(self, split: str, recordings: Sequence[Recording]) -> list[Example]:
        """Examples of recorded mixtures."""

    @abstractmethod
    def load_recorded(self, example: Example) -> Item:
        """Such a mixture and its target."""

    @abstractmethod
    def mix(self, recordings: Sequence[Recording], index: int, rng: np.random.Generator) -> Item:
        """A mixture of one recording with another speaker's, and its target."""

    def examples(self, split: str) -> Sequence[Example]:
        """Targets are what the corpus says of a recorded mixture, or a Draw."""
        return self._splits[split]

    def load(self, example: Example, rng: np.random.Generator | None) -> Item:
        """A mixture and its target; dev and test are the same at each use."""
        if not isinstance(example.target, Draw):
            return self.load_recorded(example)
        split, first = example.target
        rng = rng or generator(0, f"mixtures of {split}", first)
        return self.mix(self._rows[split], first, rng)

    def key(self, example: Example, *, training: bool) -> str | None:
        """None for a mixture that is made."""
        if isinstance(example.target, Draw):
            return None
        return super().key(example, training=training)
