# SPDX-License-Identifier: Apache-2.0
"""Tasks with a head: how it is built and trained, and what it predicts."""

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from wavlm_lightning.downstream.features.frames import Frames, Framing
from wavlm_lightning.downstream.task import Batch, Sources, Task, TaskConfig

C = TypeVar("C", bound=TaskConfig)


class TrainedTask(Task[C]):
    """A task whose head is trained; arguments as of `Task`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.chosen: dict[str, float] = {}  # what `tune` chose on dev
        self.classes: Sequence[str] = ()  # names of a classifier's outputs
        self.symbols: list[str] = []  # of the outputs of a head that writes text

    @classmethod
    def rebuilt(cls, config: C, vocabulary: Mapping[str, Any], *, framing: Framing) -> Self:
        """The task without a corpus, as `vocabulary` of one with its corpus described it.

        Args:
            config: Section `task`.
            vocabulary: What the outputs of the head stand for.
            framing: Of the upstream.
        """
        task = cls.__new__(cls)
        TrainedTask.__init__(task, config, Sources("none", {}), framing=framing)
        task.take_vocabulary(vocabulary)
        return task

    def vocabulary(self) -> dict[str, Any]:
        """What the outputs of the head stand for, as plain values."""
        return {"classes": list(self.classes)}

    def take_vocabulary(self, vocabulary: Mapping[str, Any]) -> None:
        """Take what `vocabulary` gave."""
        self.classes = list(vocabulary["classes"])

    def with_seed(self, seed: int) -> Self:
        """The same task with draws and choices of its own; examples are shared."""
        other = copy.copy(self)  # shallow: lists of a hundred thousand examples stay one
        other.seed, other.chosen = seed, {}
        return other

    def weights(self) -> NDArray[np.float64] | None:
        """(N,) chances of training examples, drawn with replacement; None: each once an epoch."""
        return None

    @abstractmethod
    def head(self, dim: int) -> nn.Module:
        """The trained part over frames of width `dim`."""

    @abstractmethod
    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Mean loss () of a batch."""

    @abstractmethod
    def predict(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Any]:
        """One plain value for each row, on the CPU: what `score` needs."""

    @abstractmethod
    def readable(self, head: nn.Module, frames: Frames, batch: Batch) -> list[dict[str, Any]]:
        """What is heard in each row, for a user: plain values; waveforms (T,) under "audio".

        Targets of the batch are not looked at.
        """

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
