# SPDX-License-Identifier: Apache-2.0
"""Tasks without training: features of one layer are compared as they are."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from wavlm_lightning.downstream.task import Task, TaskConfig

C = TypeVar("C", bound=TaskConfig)


class Search(Task[C]):
    """A layer's features of a split go in, predictions that `score` understands come out."""

    splits: ClassVar = ("dev", "test")

    @abstractmethod
    def compare(self, split: str, features: Mapping[str, Tensor], *, device: str) -> dict[str, Any]:
        """Predictions of a split from the features (F, D) of all its examples by id."""
