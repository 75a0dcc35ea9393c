# SPDX-License-Identifier: Apache-2.0
"""A weighted sum of layers and a task's head: what is learned on a frozen upstream.

Several may train side by side on one pass of the upstream. None is changed by the others: weights,
learning rate, clipping, dropout, and what its task chooses on dev are its own.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wavlm_lightning.downstream.features.featurizer import Featurizer, FeaturizerConfig
from wavlm_lightning.downstream.features.frames import Features, Frames, Framing
from wavlm_lightning.downstream.task import Batch
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.seeding import seed_torch, torch_seed
from wavlm_lightning.training import zero_loss


class Shape(Framing, Protocol):
    """What a head is told of an upstream."""

    @property
    def dim(self) -> int:
        """Width of its layers."""

    @property
    def num_layers(self) -> int:
        """Layers that it gives."""


class Learner(nn.Module):
    """One head and its layer weights.

    Args:
        task: gives head, loss, predictions and score.
        upstream: says how many layers there are, and how wide.
        featurizer: how layers become one.
        lr: peak learning rate.
        seed: of first weights, dropout and masks.
        name: in logs and folders; "" for one that is alone.

    Raises:
        ValueError: if the task was built for another stride.
    """

    def __init__(
        self,
        task: TrainedTask[Any],
        upstream: Shape,
        featurizer: FeaturizerConfig,
        *,
        lr: float,
        seed: int,
        name: str = "",
    ):
        super().__init__()
        if task.framing.stride != upstream.stride:
            raise ValueError(
                f"the task was built for frames every {task.framing.stride} samples, the upstream "
                f"gives one every {upstream.stride}: give the task this upstream as framing"
            )
        self.task, self.lr, self.seed, self.name = task.with_seed(seed), lr, seed, name
        self.featurizer = Featurizer(
            featurizer, num_layers=upstream.num_layers, stride=upstream.stride
        )
        # A head's first weights depend on its seed alone, so it is the same beside others.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(seed, "head"))
            self.head = self.task.head(upstream.dim)
        self.diverged: int | None = None  # the update with which it was given up
        self.predictions: dict[str, dict[str, Any]] = {}  # by split and id, of the last evaluation

    def drop(self, update: int) -> None:
        """Give it up with this update: it trains no further, and is not evaluated."""
        self.diverged = update

    def log_key(self, name: str) -> str:
        """Name of one of its figures in logs."""
        return f"{self.name}/{name}" if self.name else name

    def forward(self, features: Features, batch: Batch) -> Frames:
        """Layers of (B, F, D) -> frames (B, F, D), what the head is given."""
        frames: Frames = self.featurizer(features, batch.lengths)
        return frames

    def loss(self, features: Features, batch: Batch, *drawn: int) -> Tensor:
        """Mean loss () of a batch; dropout depends on the seed and `drawn` alone."""
        seed_torch(self.seed, "dropout", *drawn)
        return self.task.loss(self.head, self(features, batch), batch)

    def no_loss(self) -> Tensor:
        """Zero (), with a zero gradient for every parameter, whatever these hold."""
        return zero_loss(self.parameters())

    def predict(self, features: Features, batch: Batch) -> Iterable[tuple[int, str, Any]]:
        """Place in the split, id and prediction of each row."""
        predicted = self.task.predict(self.head, self(features, batch), batch)
        return zip(batch.indices, batch.ids, predicted, strict=True)
