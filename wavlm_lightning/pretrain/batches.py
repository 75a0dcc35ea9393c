# SPDX-License-Identifier: Apache-2.0
"""Which utterances train together: the plan of an epoch.

A pure function of (seed, epoch) over the lengths. Batches hold utterances of nearly equal length
and at most a stated number of seconds; a fixed number of batches makes one update, whoever computes
it: the same updates come out for one process that accumulates and for many that do not.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler, SequentialSampler

from wavlm_lightning.lengths import HOP, RECEPTIVE_FIELD, SAMPLE_RATE, conv_lengths
from wavlm_lightning.seeding import generator

BUCKET_RATIO = 1.05  # lengths within 5 % count as equal, and cropping costs at most that
# A grid of crops: few lengths, so that a compiler has seen them all after minutes. Attention's
# memory-efficient kernel of torch needs a bias whose rows are multiples of eight long.
GRID_RATIO = 1.07
GRID_FRAMES = 8


def bucket_sizes(num_samples: NDArray[np.int64], max_samples: int) -> NDArray[np.int64]:
    """Length of each utterance in the plan: the top of its bucket, at most the crop."""
    capped = np.minimum(num_samples, max_samples)
    tops = np.ceil(np.log(capped.clip(min=1)) / math.log(BUCKET_RATIO))
    return np.minimum(np.ceil(BUCKET_RATIO**tops), max_samples).astype(np.int64)


def crop_grid(min_samples: int, max_samples: int) -> NDArray[np.int64]:
    """Lengths in samples that crops may have, rising by 7 % but at least by eight frames.

    >>> len(crop_grid(32_000, 250_000))
    39
    >>> crop_grid(32_000, 250_000)[[0, 1, -2, -1]]
    array([ 30800,  33360, 243280, 248400])
    """
    lowest, highest = (
        max(conv_lengths(n) // GRID_FRAMES, 1) * GRID_FRAMES for n in (min_samples, max_samples)
    )
    frames = [lowest]
    while frames[-1] < highest:
        wanted = max(GRID_RATIO * frames[-1], frames[-1] + GRID_FRAMES)
        frames.append(min(int(wanted) // GRID_FRAMES * GRID_FRAMES, highest))
    return RECEPTIVE_FIELD + HOP * (np.array(frames, np.int64) - 1)


def on_grid(num_samples: NDArray[np.int64], grid: NDArray[np.int64]) -> NDArray[np.int64]:
    """The longest length of the grid that each holds; its own where that is below the grid."""
    place = np.searchsorted(grid, num_samples, side="right") - 1
    return np.where(place < 0, num_samples, grid[place.clip(min=0)])


@dataclass
class BatchPlan:
    """Batches of an epoch, grouped into updates.

    Args:
        num_samples: (N,) lengths of the utterances.
        seconds_per_batch: most seconds of audio in one batch.
        batches_per_update: batches whose gradients make one update.
        max_samples: longest crop.
        seed: of the order.
        grid: lengths that crops may have, see `crop_grid`; None: any.
        repeat: train on the first so many updates over and over; None: on all.
    """

    num_samples: NDArray[np.int64]
    seconds_per_batch: float
    batches_per_update: int
    max_samples: int
    seed: int
    grid: NDArray[np.int64] | None = None
    repeat: int | None = None
    updates: int = field(init=False)

    def __post_init__(self) -> None:
        self._sizes = bucket_sizes(self.num_samples, self.max_samples)
        if self.grid is not None:
            self._sizes = on_grid(np.minimum(self.num_samples, self.max_samples), self.grid)
        budget = self.seconds_per_batch * SAMPLE_RATE
        longest = int(np.minimum(self.num_samples, self.max_samples).max(initial=0))
        if longest > budget:
            raise ValueError(
                f"data.seconds_per_batch={self.seconds_per_batch:g} is less than one utterance of "
                f"{longest / SAMPLE_RATE:.1f} s: raise it or lower data.max_samples"
            )
        # Sizes are sorted, so where to cut does not depend on the epoch: all epochs are as long.
        self._cuts = _cut(np.sort(self._sizes)[::-1], budget)
        self.updates = len(self._cuts) // self.batches_per_update
        if self.updates == 0:
            seconds = float(self.num_samples.sum()) / SAMPLE_RATE
            raise ValueError(
                f"{seconds:.0f} s of audio make {len(self._cuts)} batches, an update needs "
                f"{self.batches_per_update}: lower data.audio_seconds_per_update or give more audio"
            )
        self._whole = self.updates
        if self.repeat is not None:
            self.updates = min(self.updates, self.repeat)

    @property
    def left_out(self) -> int:
        """Batches an epoch that make no whole update; other ones each epoch."""
        return len(self._cuts) - self._whole * self.batches_per_update

    @property
    def cropped_share(self) -> float:
        """Share of the first epoch's audio that is cut: batches end with their shortest row."""
        capped = np.minimum(self.num_samples, self.max_samples)
        rows = [capped[batch] for update in self.epoch(0) for batch in update]
        kept = sum(len(row) * crop_size(row, self.grid) for row in rows)
        return 1 - kept / sum(int(row.sum()) for row in rows)

    def epoch(self, epoch: int) -> list[list[NDArray[np.int64]]]:
        """Updates of an epoch: each a list of batches, and those arrays of indices."""
        rng = generator(self.seed, "plan", 0 if self.repeat is not None else epoch)
        # Longest first, equal ones in a random order: other utterances meet in each epoch.
        order = np.lexsort((rng.random(len(self._sizes)), -self._sizes))
        batches = np.split(order, self._cuts[1:])
        shuffled = rng.permutation(len(batches))
        updates = []
        for update in range(self.updates):
            start = update * self.batches_per_update
            chosen = shuffled[start : start + self.batches_per_update]
            updates.append([batches[i] for i in np.sort(chosen)])
        return updates


def crop_size(num_samples: NDArray[np.int64], grid: NDArray[np.int64] | None) -> int:
    """What all utterances of a batch are cropped to: the shortest, or the grid's length below."""
    shortest = num_samples.min(keepdims=True)
    return int((shortest if grid is None else on_grid(shortest, grid))[0])


def _cut(sizes: NDArray[np.int64], budget: float) -> NDArray[np.int64]:
    """First positions of batches of descending sizes with (largest x rows) within the budget."""
    starts, position = [], 0
    while position < len(sizes):
        starts.append(position)
        position += max(1, int(budget // sizes[position]))
    return np.array(starts, np.int64)


class FixedBatches(SequentialSampler):
    """The same batches in the same order each time.

    Lightning leaves a sampler of this kind alone where it trains on a few batches over and over.
    """

    def __init__(self, batches: list[tuple[int, list[int]]]):
        super().__init__(batches)
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class PlanSampler(Sampler[tuple[int, list[int]]]):
    """One rank's batches of an epoch, from any position: (epoch, indices of a batch).

    Epoch and start are given when it is made, because Lightning makes the first iterator of a
    resumed run before it calls `set_epoch`; the length is that of a whole epoch, as it requires.
    """

    def __init__(self, plan: BatchPlan, *, rank: int, world: int, epoch: int = 0, start: int = 0):
        if plan.batches_per_update % world:
            raise ValueError(f"{plan.batches_per_update} batches an update over {world} processes")
        self.plan, self.rank, self.world = plan, rank, world
        self._epoch, self._start = epoch, start

    def __len__(self) -> int:
        return self.plan.updates * self.plan.batches_per_update // self.world

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of an epoch; a new one starts at its beginning."""
        if epoch != self._epoch:
            self._epoch, self._start = epoch, 0

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        epoch = self._epoch
        # Neighbours in length go to the ranks of one step, so that none waits long.
        mine = [
            batch for update in self.plan.epoch(epoch) for batch in update[self.rank :: self.world]
        ]
        for batch in mine[self._start :]:
            yield epoch, batch.tolist()
