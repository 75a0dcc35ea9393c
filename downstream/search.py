# SPDX-License-Identifier: Apache-2.0
"""Tasks without training: features of one layer are compared as they are."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from downstream.features import Frames
from downstream.task import Batch, Task, TaskConfig

C = TypeVar("C", bound=TaskConfig)


class Search(Task[C]):
    """A layer's features of a split go in, predictions that `score` understands come out."""

    trainable = False
    splits: ClassVar = ("dev", "test")

    @abstractmethod
    def compare(self, split: str, features: Mapping[str, Tensor], *, device: str) -> dict[str, Any]:
        """Predictions of a split from the features (F, D) of all its examples by id."""

    def head(self, dim: int, stride: int) -> nn.Module:
        """There is none."""
        raise TypeError(f"{self.name} trains no head")

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """There is none."""
        raise TypeError(f"{self.name} has no loss")

    def predict(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Any]:
        """Utterances are not predicted one by one."""
        raise TypeError(f"{self.name} compares a whole split")
