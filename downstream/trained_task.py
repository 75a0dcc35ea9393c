# SPDX-License-Identifier: Apache-2.0
"""Tasks with a head: how it is built and trained, and what it predicts."""

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from downstream.features.frames import Frames
from downstream.task import Batch, Task, TaskConfig

C = TypeVar("C", bound=TaskConfig)


class TrainedTask(Task[C]):
    """A task whose head is trained; arguments as of `Task`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.chosen: dict[str, float] = {}  # what `tune` chose on dev
        self.classes: Sequence[str] = ()  # names of a classifier's outputs
        self.symbols: list[str] = []  # of the outputs of a head that writes text

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
