# SPDX-License-Identifier: Apache-2.0
"""Examples -> padded batches: which ones train together, and in which order.

The batches of an update are a pure function of (seed, update) over the lengths, so a resumed run
and any number of processes or workers see the same. Epochs follow each other without a border:
every example comes once an epoch, none is left over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from downstream.cache import KeptFiles
from downstream.config import DataConfig
from downstream.task import Batch, Example, Item, Task
from downstream.trained_task import TrainedTask
from wavlm_lightning.audio import AudioError
from wavlm_lightning.lengths import RECEPTIVE_FIELD, SAMPLE_RATE, pad_batch
from wavlm_lightning.processes import leave_signals
from wavlm_lightning.same_recordings import Span, shared
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
        """On average."""
        if self.config.order == "bucketed":
            return len(self._cuts)
        return len(self.num_samples) / self.batch_size

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
                order = np.lexsort((rng.random(len(self.num_samples)), -self.num_samples))
                batches = np.split(order, self._cuts[1:])
                made = [batches[i] for i in rng.permutation(len(batches))]
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


class TaskDataset(Dataset[Batch]):
    """Reads the rows of a batch."""

    def __init__(
        self,
        task: Task[Any],
        examples: Sequence[Example],
        *,
        training: bool,
        seed: int,
        kept: KeptFiles | None = None,
    ):
        self.task, self.examples, self.training, self.seed = task, examples, training, seed
        self.kept = None if task.uses_waveforms else kept

    def __getitem__(self, places: Places) -> Batch:
        keys = [self.task.key(self.examples[i], training=self.training) for _, i in places]
        counts = [self._kept_samples(key) for key in keys]
        items = [
            self._read(*place) if count is None else self._unread(place[1])
            for place, count in zip(places, counts, strict=True)
        ]
        lengths = [
            len(item.waveform) if count is None else count
            for item, count in zip(items, counts, strict=True)
        ]
        return Batch(
            pad_batch([item.waveform for item in items])[0],
            torch.tensor(lengths),
            [item.target for item in items],
            [self.examples[i].id for _, i in places],
            [i for _, i in places],
            [e for e, _ in places],
            keys,
            [count is None for count in counts],
        )

    def _kept_samples(self, key: str | None) -> int | None:
        """Samples that kept features were computed from; None where there are none to use."""
        return None if self.kept is None or key is None else self.kept.num_samples(key)

    def _unread(self, index: int) -> Item:
        """The target alone."""
        return Item(torch.empty(0), self.task.target(self.examples[index]))

    def _read(self, epoch: int, index: int) -> Item:
        """From its recording."""
        rng = generator(self.seed, "load", epoch, index) if self.training else None
        example = self.examples[index]
        item = self.task.load(example, rng)
        if len(item.waveform) < RECEPTIVE_FIELD:
            raise AudioError(
                f"{example.path}: {len(item.waveform)} samples of {example.id}, one frame "
                f"needs {RECEPTIVE_FIELD} (25 ms): remove it from the corpus or the manifest"
            )
        return item


class TaskData(lightning.LightningDataModule):
    """A task's splits as loaders of batches.

    Args:
        task: says what is in a split.
        config: sizes and order.
        total_updates: of the training.
        seed: of order, crops and mixtures.
        rank: of this process.
        world: processes.

    Raises:
        ValueError: if a split has no examples.
    """

    def __init__(
        self,
        task: Task[Any],
        config: DataConfig,
        *,
        total_updates: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ):
        super().__init__()
        self.task, self.config = task, config
        self.seed = seed if config.seed is None else config.seed
        self.kept: KeptFiles | None = None  # features whose recordings need not be read
        self.pooled = False
        self._by_key: dict[str, Example] = {}
        self.total_updates, self.rank, self.world = total_updates, rank, world
        self.splits = {split: list(task.examples(split)) for split in task.splits}
        for split, examples in self.splits.items():
            if not examples:
                raise ValueError(f"{task.name}: no examples in split {split} of {task.sources}")
            if len({e.id for e in examples}) != len(examples):
                raise ValueError(f"{task.name}: two examples of split {split} have the same id")
        self._shared = self._shared_recordings() if task.sources.own is not None else {}
        self._weights = None
        if isinstance(task, TrainedTask):
            self._weights = task.weights()
            self.config = sized(config, self._lengths("train"))
            self.plan = self._plan(self.config)

    def _plan(self, config: DataConfig) -> TrainPlan:
        return TrainPlan(
            self._lengths("train"),
            config,
            seed=self.seed,
            world=self.world,
            weights=self._weights,
        )

    def _shared_recordings(self) -> dict[str, float]:
        """Training examples of a person's own folder that are evaluated too."""
        spans = {
            split: [Span(Path(e.path), e.start, e.stop) for e in examples]
            for split, examples in self.splits.items()
        }
        return {
            f"train_utterances_also_in_{split}": len(shared(spans["train"], spans[split]))
            for split in spans
            if split != "train" and "train" in spans
        }

    def warnings(self) -> list[str]:
        """Lines on what a person should know of the splits."""
        found = [f"{count:.0f} {k.replace('_', ' ')}" for k, count in self._shared.items() if count]
        return [f"warning: {', '.join(found)}: scores are too good"] if found else []

    def _lengths(self, split: str) -> NDArray[np.int64]:
        return np.array([e.num_samples for e in self.splits[split]], np.int64)

    def train_dataloader(self) -> DataLoader[Batch]:
        """From the update at which the trainer stands."""
        start = self.trainer.global_step if self.trainer else 0
        sampler = TrainSampler(
            self.plan,
            rank=self.rank,
            world=self.world,
            start=start,
            total_updates=self.total_updates,
        )
        return self._loader("train", sampler, keep=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Dev, longest first."""
        return self.eval_dataloader("dev")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test, longest first."""
        return self.eval_dataloader("test")

    def eval_dataloader(self, split: str) -> DataLoader[Batch]:
        """A split in order of length, batches by seconds of audio, this rank's share."""
        lengths = self._lengths(split)
        order = np.argsort(-lengths, kind="stable")
        starts = cut(lengths[order], self.config.eval_seconds * SAMPLE_RATE)
        batches = [[(0, int(i)) for i in rows] for rows in np.split(order, starts[1:])]
        # A rank without a batch would not join the others at the end: it repeats the first one.
        mine = batches[self.rank :: self.world] or batches[:1]
        return self._loader(split, mine, keep=False)

    def _loader(self, split: str, sampler: Any, *, keep: bool) -> DataLoader[Batch]:
        dataset = TaskDataset(
            self.task,
            self.splits[split],
            training=split == "train",
            seed=self.seed,
            kept=self.kept,
        )
        return DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=self.config.num_workers,
            persistent_workers=keep and self.config.num_workers > 0,
            worker_init_fn=leave_signals,
            pin_memory=torch.cuda.is_available(),
        )

    def pool(self) -> None:
        """Utterances have one frame each: nothing is padded, and equal batches are made one.

        The mean loss of an update stays what it was: its head draws nothing.
        """
        self.pooled = True
        if self.config.order == "random":
            size = self.config.batch_size * self.config.batches_per_update
            config = replace(self.config, batch_size=size, batches_per_update=1)
            self.plan = self._plan(config)

    def waveform(self, key: str) -> Tensor:
        """Samples (T,) of the utterance with a key, read anew.

        Raises:
            KeyError: if there is none.
        """
        if not self._by_key:
            for split, examples in self.splits.items():
                for example in examples:
                    name = self.task.key(example, training=split == "train")
                    if name is not None:
                        self._by_key[name] = example
        return self.task.load(self._by_key[key], None).waveform

    def to_keep(self) -> list[tuple[str, Example]]:
        """Split and example of the utterances whose features can be kept."""
        return [
            (split, example)
            for split, examples in self.splits.items()
            for example in examples
            if self.task.key(example, training=split == "train") is not None
        ]

    @property
    def padding_share(self) -> float:
        """Of what training batches hold, over one epoch."""
        if self.pooled or not isinstance(self.task, TrainedTask):
            return 0.0
        rows = [b for u in range(self._updates_per_epoch()) for b in self.plan.update(u)]
        lengths = self._lengths("train")
        sizes = [lengths[[i for _, i in row]] for row in rows]
        return 1 - sum(int(x.sum()) for x in sizes) / sum(len(x) * int(x.max()) for x in sizes)

    def _updates_per_epoch(self) -> int:
        return max(1, round(self.plan.batches_per_epoch / self.plan.batches_per_update))

    def counts(self) -> dict[str, float]:
        """Utterances and hours of each split, and the padding in training, for the result."""
        counts: dict[str, float] = {}
        for split in self.splits:
            counts[f"{split}_utterances"] = len(self.splits[split])
            hours = float(self._lengths(split).sum()) / SAMPLE_RATE / 3600
            counts[f"{split}_hours"] = round(hours, 4)
        counts["padding_share"] = round(self.padding_share, 4)
        counts["unusable_recordings"] = len(self.task.sources.lengths.unusable)
        return counts | self._shared
