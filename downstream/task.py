# SPDX-License-Identifier: Apache-2.0
"""What a task is: examples, targets, a head, a loss, predictions, a score.

One file in `downstream/tasks` defines each. A task is given folders and says what is in them; it
knows nothing of training loops, devices or processes.
"""

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from downstream.corpora.lengths import Reader
from downstream.features import Frames
from wavlm_lightning.audio import read_audio
from wavlm_lightning.fields import Checked


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
        kind: "mini", "official", or "manifest" for a folder of a person's own.
        paths: corpus name -> folder in its official layout.
        manifest: that folder.
        cache: a folder to write what is computed once.
        lengths: looks at recordings, and says which are left out.
    """

    kind: str
    paths: Mapping[str, str | None]
    manifest: Path | None = None
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


C = TypeVar("C", bound=TaskConfig)


class Task(ABC, Generic[C]):
    """One way to judge a representation.

    Args:
        config: section `task` of its YAML.
        sources: where its recordings lie.
        seed: of whatever it draws.
        variant: which of `variants` this is, None where there are none.
    """

    name: ClassVar[str]
    suite: ClassVar[str] = "superb"  # the benchmark that it is of
    corpus: ClassVar[str]  # its official one
    Config: ClassVar[type[TaskConfig]]
    monitor: str  # the figure on dev that chooses the checkpoint
    mode: ClassVar[str]  # "min" or "max"
    headline: str  # the figure on test that tables show
    headline_mode: ClassVar[str]  # "min" or "max": which is better
    unit: ClassVar[str]  # of the headline, "" for none
    trivial_answer: ClassVar[str] = ""  # whose figures `trivial` gives
    published_on_test: ClassVar[bool] = False  # published scores are the best of several on test
    uses_waveforms: ClassVar[bool] = False  # its loss or predictions look at Batch.waveforms
    pools: ClassVar[bool] = False  # its head knows frames by their mean over time alone
    trainable: ClassVar[bool] = True  # false for a `downstream.search.Search`
    splits: ClassVar[Sequence[str]] = ("train", "dev", "test")

    def __init__(
        self, config: C, sources: Sources, *, seed: int = 0, variant: str | None = None
    ) -> None:
        self.config, self.sources, self.seed, self.variant = config, sources, seed, variant
        self.chosen: dict[str, float] = {}  # what `tune` chose on dev
        self.classes: Sequence[str] = ()  # names of a classifier's outputs
        self.symbols: list[str] = []  # of the outputs of a head that writes text
        self.gain_db = 0.0  # on every recording that `load` reads
        self.num_frames: Callable[[int], int] = _unknown  # of the upstream, by samples

    def with_seed(self, seed: int) -> Self:
        """The same task with draws and choices of its own; examples are shared."""
        other = copy.copy(self)
        other.seed, other.chosen = seed, {}
        return other

    @classmethod
    def variants(cls, sources: Sources) -> list[str]:
        """Folds, languages or the like, each of which is a run of its own; [] for a single run."""
        return []

    @abstractmethod
    def examples(self, split: str) -> Sequence[Example]:
        """All of "train", "dev" or "test", in an order that never changes."""

    def weights(self) -> NDArray[np.float64] | None:
        """(N,) chances of training examples, drawn with replacement; None: each once an epoch."""
        return None

    def load(self, example: Example, rng: np.random.Generator | None) -> Item:
        """Read an example; `rng` is there in training alone, for crops and mixtures."""
        waveform = read_audio(example.path, example.start, example.stop)
        return Item(waveform * 10 ** (self.gain_db / 20), self.target(example))

    def target(self, example: Example) -> Any:
        """What `load` gives beside the samples, where it follows from the example alone.

        That is all that is asked for where features are kept, unless `uses_waveforms`.
        """
        return example.target

    def key(self, example: Example, *, training: bool) -> str | None:
        """Names the samples that `load` gives, for features that are kept; None if drawn anew."""
        about = os.stat(example.path)
        key = f"{example.path} {about.st_size} {about.st_mtime_ns} {example.start} {example.stop}"
        return f"{key} {self.gain_db} dB" if self.gain_db else key

    @abstractmethod
    def head(self, dim: int, stride: int) -> nn.Module:
        """The trained part over frames of width `dim`, one every `stride` samples."""

    @abstractmethod
    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Mean loss of a batch."""

    @abstractmethod
    def predict(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Any]:
        """One plain value for each row, on the CPU: what `score` needs."""

    @abstractmethod
    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Figures without the split's name, from the predictions of all its examples by id."""

    def trivial(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Figures on test of `trivial_answer`, which learns nothing; they stand beside the score.

        Args:
            predictions: On test, for the references in them.
        """
        return {}

    def excluded_counts(self) -> dict[str, float]:
        """Utterances that are not trained on or tested, or teach nothing, by reason."""
        return {}

    def warnings(self) -> list[str]:
        """Lines on what a person should know of the corpus before hours are spent on it.

        Raises:
            ValueError: if nothing could be learned from it.
        """
        return []

    def tune(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Choose on dev what the test shall use, keep it in `chosen`, and return it."""
        return {}

    @property
    def test_checkpoints(self) -> int:
        """Evenly spaced checkpoints also scored on test, for protocols that choose there."""
        return 0

    @property
    def chosen_on_test(self) -> bool:
        """Whether the best of these is all that is reported, since dev is trained on."""
        return False

    def write_predictions(
        self, folder: Path, split: str, predictions: Mapping[str, Any]
    ) -> list[Path]:
        """Keep predictions beside the score, in a form of the field."""
        return []

    def submission(self, predictions: Mapping[str, Any]) -> dict[str, str | NDArray[np.float32]]:
        """Files for SUPERB's leaderboard by path, from predictions on test: texts, or an array of
        which the leaderboard wants HDF5. {} for a task that it does not have."""
        return {}

    def plot_data(self, split: str, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """What a report draws beside the score, as plain values.

        Under "confusion" a list of {"title", "classes", "counts"}, counts[right][predicted]; under
        "det" {"misses", "false_alarms"}, shares of trials at rising thresholds.
        """
        return {}

    def hardest_examples(self, split: str, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Examples for a person to look at, worst first: id, reference, hypothesis, error."""
        return []


def _unknown(_: int) -> int:
    raise RuntimeError("the upstream's frames are not known yet: a Learner tells the task")
