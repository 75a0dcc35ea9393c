# SPDX-License-Identifier: Apache-2.0
"""Which training examples go together, and in which order.

The batches of an update are a pure function of (seed, update) over the lengths, so a resumed run
and any number of processes or workers see the same. Epochs follow each other without a border:
every example comes once an epoch, none is left over.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from wavlm_lightning.downstream.config import DataConfig
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.seeding import generator

Places = list[tuple[int, int]]  # (epoch, index) of each row of a batch


def sized(config: DataConfig, num_samples: NDArray[np.int64]) -> DataConfig:
    """The configuration with numbers of utterances and batches in place of seconds of audio.

    Args:
        config: As it was said.
        num_samples: (N,) lengths of the training examples.
    """
    if config.seconds_per_batch is None:
        return config
    mean = float(num_samples.mean()) / SAMPLE_RATE
    of_update = config.seconds_per_update or config.seconds_per_batch
    return replace(
        config,
        batch_size=max(1, round(config.seconds_per_batch / mean)),
        batches_per_update=max(1, round(of_update / config.seconds_per_batch)),
        seconds_per_batch=None,
        seconds_per_update=None,
    )


class TrainPlan:
    """The batches of every update.

    Args:
        num_samples: (N,) lengths as they are trained on.
        config: sizes and order.
        seed: of the order.
        world: processes; batches of an update are rounded up to a multiple of it.
        weights: (N,) probabilities of a draw with replacement, for a random order.
    """

    def __init__(
        self,
        num_samples: NDArray[np.int64],
        config: DataConfig,
        *,
        seed: int,
        world: int = 1,
        weights: NDArray[np.float64] | None = None,
    ):
        self.num_samples, self.config, self.seed = num_samples, config, seed
        self.weights = weights
        self.batches_per_update = -(-config.batches_per_update // world) * world
        # The same utterances an update, whoever computes them.
        wanted = config.batch_size * config.batches_per_update
        self.batch_size = -(-wanted // self.batches_per_update)
        self._epochs: dict[int, Any] = {}
        if config.order == "bucketed":
            self._cuts = self._cut()

    @property
    def batches_per_epoch(self) -> float:
        """Mean number of batches an epoch."""
        if self.config.order == "bucketed":
            return len(self._cuts)
        return len(self.num_samples) / self.batch_size

    def rows(self, update: int) -> list[int]:
        """Examples in each batch of one update, of all processes."""
        return [len(places) for places in self.update(update)]

    def update(self, update: int) -> list[Places]:
        """The batches of one update."""
        if self.config.repeat_updates is not None:
            update %= self.config.repeat_updates
        first = update * self.batches_per_update
        return [self._batch(first + i) for i in range(self.batches_per_update)]

    def _batch(self, number: int) -> Places:
        if self.config.order == "bucketed":
            epoch, place = divmod(number, len(self._cuts))
            return [(epoch, int(i)) for i in self._epoch(epoch)[place]]
        total = len(self.num_samples)
        places = range(number * self.batch_size, (number + 1) * self.batch_size)
        return [(p // total, int(self._epoch(p // total)[p % total])) for p in places]

    def _epoch(self, epoch: int) -> Any:
        """Indices in order (random), or a list of batches (bucketed)."""
        if epoch not in self._epochs:
            rng = generator(self.seed, "plan", epoch)
            if self.config.order == "random":
                total = len(self.num_samples)
                made: Any = rng.permutation(total)
                if self.weights is not None:
                    made = rng.choice(total, total, p=self.weights)
            else:
                # Equal lengths in a random order: other utterances meet in each epoch.
                order = np.lexsort((rng.random(len(self.num_samples)), -self.num_samples))
                batches = np.split(order, self._cuts[1:])
                made = [batches[i] for i in rng.permutation(len(batches))]
            # A batch may begin in one epoch and end in the next: older orders go.
            self._epochs = {e: v for e, v in self._epochs.items() if e == epoch - 1}
            self._epochs[epoch] = made
        return self._epochs[epoch]

    def _cut(self) -> NDArray[np.int64]:
        """First places of batches of descending lengths, all of about the same padded seconds."""
        lengths = np.sort(self.num_samples)[::-1]
        budget = float(lengths.mean()) * self.batch_size
        return np.array(cut(lengths, budget), np.int64)


def cut(lengths: NDArray[np.int64], budget: float) -> list[int]:
    """Where batches begin: descending lengths, longest x rows within the budget, one row at least.

    >>> cut(np.array([9, 5, 5, 4, 1]), 10)
    [0, 1, 3]
    """
    starts, place = [], 0
    while place < len(lengths):
        starts.append(place)
        place += max(1, int(budget // lengths[place]))
    return starts


class TrainSampler(Sampler[Places]):
    """One rank's batches from an update on; its length is that of the whole training."""

    def __init__(self, plan: TrainPlan, *, rank: int, world: int, start: int, total_updates: int):
        self.plan, self.rank, self.world = plan, rank, world
        self.start, self.total = start, total_updates

    def __len__(self) -> int:
        return self.total * self.plan.batches_per_update // self.world

    def __iter__(self) -> Iterator[Places]:
        for update in range(self.start, self.total):
            yield from self.plan.update(update)[self.rank :: self.world]
