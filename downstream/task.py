# SPDX-License-Identifier: Apache-2.0
"""What a task is: examples with targets, predictions, a score.

One file in `downstream/tasks` defines each. A task is given folders and says what is in them; it
knows nothing of training loops, devices or processes.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wavlm_lightning.audio import read_audio
from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording, read
from wavlm_lightning.downstream.corpora.lengths import Reader
from wavlm_lightning.downstream.features.frames import Framing
from wavlm_lightning.fields import Checked

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """One utterance, or one stretch of a recording."""

    id: str
    path: str
    start: int  # first sample at 16 kHz
    stop: int  # the one after the last
    target: Any = None  # whatever the task says it is

    @property
    def num_samples(self) -> int:
        return self.stop - self.start


class Item(NamedTuple):
    """An example as it is read."""

    waveform: Tensor  # (T,) float32 at 16 kHz
    target: Any


class Batch(NamedTuple):
    """Examples side by side; only the task looks into the targets."""

    waveforms: Tensor  # (B, T) float32 at 16 kHz, zero on padding and in rows that were not read
    lengths: Tensor  # (B,) int64 samples, on the host
    targets: list[Any]
    ids: list[str]
    indices: list[int]  # places in the split's examples
    epochs: list[int]  # of each example; with the index it seeds what is drawn for it
    keys: list[str | None]  # what the samples are, for features that are kept; None if drawn
    read: list[bool]  # rows whose samples are here; features of the others are kept


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Checked):
    """What a task's YAML section `task` holds; each task adds its own."""


@dataclass(frozen=True)
class Sources:
    """Where recordings lie.

    Args:
        kind: "mini", "official", or "manifest" for a user's own corpus.
        paths: corpus name -> folder in its official layout.
        own: that corpus, which takes the place of every official one.
        cache: a folder to write what is computed once.
        lengths: looks at recordings, and says which are left out.
    """

    kind: str
    paths: Mapping[str, str | None]
    own: Corpus | None = None
    cache: Path = field(default=Path(".cache/superb"))
    lengths: Reader = field(default_factory=Reader)

    def folder(self, corpus: str) -> Path:
        """The folder of a corpus.

        Raises:
            ValueError: if its key is not set.
            FileNotFoundError: if nothing is there; both name the key.
        """
        where = self.paths.get(corpus)
        if not where:
            raise ValueError(
                f"paths.{corpus} is not set: say paths.{corpus}=DIR or add it to configs/paths.yaml"
            )
        if not Path(where).is_dir():
            raise FileNotFoundError(f"paths.{corpus}={where}: no such folder")
        return Path(where)

    def choose(self, *, own: Callable[[Corpus], T], official: Callable[[], T]) -> T:
        """What is made of the user's own corpus, or of the official one where there is none."""
        return official() if self.own is None else own(self.own)


C = TypeVar("C", bound=TaskConfig)


class Task(ABC, Generic[C]):
    """One way to evaluate a representation: data and score.

    `TrainedTask` trains a head for it; `Search` compares features as they are.

    Args:
        config: section `task` of its YAML.
        sources: where its recordings lie.
        framing: of the upstream that is evaluated.
        seed: of whatever it draws.
        variant: which of `variants` this is, None where there are none.
    """

    name: ClassVar[str]
    suite: ClassVar[str] = "superb"  # the benchmark that it is of
    corpus: ClassVar[str]  # its official one
    needs: ClassVar[Sequence[str]] = ()  # fields that no recording of its corpus may lack
    Config: ClassVar[type[TaskConfig]]
    monitor: str  # the score on dev that chooses the checkpoint, or the layer
    mode: ClassVar[str]  # "min" or "max"
    headline: str  # the score on test that tables show
    headline_mode: ClassVar[str]  # "min" or "max": which is better
    unit: ClassVar[str]  # of the headline, "" for none
    trivial_answer: ClassVar[str] = ""  # whose scores `trivial` gives
    published_on_test: ClassVar[bool] = False  # published scores are the best of several on test
    uses_waveforms: ClassVar[bool] = False  # its loss or predictions look at Batch.waveforms
    pools: ClassVar[bool] = False  # its head sees the mean of frames over time alone
    splits: ClassVar[Sequence[str]] = ("train", "dev", "test")

    def __init__(
        self,
        config: C,
        sources: Sources,
        *,
        framing: Framing,
        seed: int = 0,
        variant: str | None = None,
    ) -> None:
        self.config, self.sources, self.framing = config, sources, framing
        self.seed, self.variant = seed, variant

    @classmethod
    def variants(cls, sources: Sources) -> list[str]:
        """Folds, languages or the like, each of which is a run of its own; [] for a single run."""
        return []

    def official(self) -> Corpus:
        """Its official corpus, in the layout that is published."""
        raise NotImplementedError(f"{self.name} reads its own data alone: say data.manifest=DIR")

    def open_corpus(self) -> Corpus:
        """The corpus that is evaluated on."""
        return self.sources.choose(own=lambda corpus: corpus, official=self.official)

    def read(self, corpus: Corpus) -> list[Recording]:
        """Measured recordings of a corpus with what the task needs of each."""
        return read(corpus, needs=self.needs, lengths=self.sources.lengths)

    @abstractmethod
    def examples(self, split: str) -> Sequence[Example]:
        """All of "train", "dev" or "test", in an order that never changes."""

    def load(self, example: Example, rng: np.random.Generator | None) -> Item:
        """Read an example; `rng` is there in training alone, for crops and mixtures."""
        waveform = read_audio(example.path, example.start, example.stop)
        return Item(self.prepared(waveform), self.target(example))

    @property
    def gain_db(self) -> float:
        """Gain on every recording."""
        return 0.0

    def prepared(self, waveform: Tensor) -> Tensor:
        """Samples (T,) of a recording -> samples (T',) that the upstream is given."""
        return waveform * 10 ** (self.gain_db / 20)

    def target(self, example: Example) -> Any:
        """What `load` gives beside the samples, where it follows from the example alone.

        That is all that is asked for where features are kept, unless `uses_waveforms`.
        """
        return example.target

    def key(self, example: Example, *, training: bool) -> str | None:
        """Names the samples that `load` gives, for features that are kept; None if random."""
        stat = os.stat(example.path)
        key = f"{example.path} {stat.st_size} {stat.st_mtime_ns} {example.start} {example.stop}"
        return f"{key} {self.gain_db} dB" if self.gain_db else key

    @abstractmethod
    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Scores without the split's name, from the predictions of all its examples by id."""

    def trivial(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Scores on test of `trivial_answer`, which learns nothing; they stand beside the score.

        Args:
            predictions: On test, for the references in them.
        """
        return {}

    def excluded_counts(self) -> dict[str, float]:
        """Utterances that are not trained on or tested, or teach nothing, by reason."""
        return {}

    def warnings(self) -> list[str]:
        """Lines on what a user should know of the corpus before hours are spent on it.

        Raises:
            ValueError: if nothing could be learned from it.
        """
        return []

    def write_predictions(
        self, folder: Path, split: str, predictions: Mapping[str, Any]
    ) -> list[Path]:
        """Keep predictions beside the score, in a form of the field."""
        return []

    def submission(self, predictions: Mapping[str, Any]) -> dict[str, str | NDArray[np.float32]]:
        """Files for SUPERB's leaderboard by path, from predictions on test: texts, or an array of
        which the leaderboard requires HDF5. {} for a task that it does not have."""
        return {}

    def plot_data(self, split: str, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """What a report draws beside the score, as plain values.

        Under "confusion" a list of {"title", "classes", "counts"}, counts[right][predicted]; under
        "det" {"misses", "false_alarms"}, shares of trials at rising thresholds.
        """
        return {}

    def hardest_examples(self, split: str, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Examples to look at, worst first: id, reference, hypothesis, error."""
        return []


def example_of(recording: Recording, target: Any) -> Example:
    """A measured recording as an example."""
    assert recording.stop is not None
    return Example(recording.id, str(recording.path), recording.start, recording.stop, target)
