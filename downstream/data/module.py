# SPDX-License-Identifier: Apache-2.0
"""Examples -> padded batches of training and evaluation, and what there is to say of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wavlm_lightning.audio import AudioError
from wavlm_lightning.downstream.config import DataConfig
from wavlm_lightning.downstream.data.plan import Places, TrainPlan, TrainSampler, cut, sized
from wavlm_lightning.downstream.features.cache import KeptFiles
from wavlm_lightning.downstream.task import Batch, Example, Item, Task
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.lengths import RECEPTIVE_FIELD, SAMPLE_RATE, pad_batch
from wavlm_lightning.runtime import leave_signals
from wavlm_lightning.same_recordings import Span, shared
from wavlm_lightning.seeding import generator


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
        """Read an example from its recording."""
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
        # Of the whole training set, once: a plan is made again when a batch size changes.
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
        """Counts of training examples of a user's own corpus that are evaluated too."""
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
        """Warnings about the splits."""
        found = [f"{count:.0f} {k.replace('_', ' ')}" for k, count in self._shared.items() if count]
        return [f"warning: {', '.join(found)}: scores are too good"] if found else []

    def _lengths(self, split: str) -> NDArray[np.int64]:
        return np.array([e.num_samples for e in self.splits[split]], np.int64)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches from the update at which the trainer stands."""
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

    def use_kept(self, kept: KeptFiles | None) -> None:
        """Do not read recordings whose features are kept there."""
        self.kept = kept

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
        """Share of padding in training batches, over one epoch."""
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
