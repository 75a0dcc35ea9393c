# SPDX-License-Identifier: Apache-2.0
"""Which examples train together: everything once an epoch, the same for any number of processes."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from wavlm_lightning.audio import AudioError
from wavlm_lightning.downstream.config import DataConfig
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.data.plan import TrainPlan, TrainSampler, sized
from wavlm_lightning.downstream.features.frames import ConvolutionFraming
from wavlm_lightning.downstream.task import Example, Sources, TaskConfig
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.lengths import SAMPLE_RATE

LENGTHS = np.random.default_rng(0).integers(8_000, 64_000, 37)


def plan(
    order: str, *, world: int = 1, batches: int = 1, size: int = 5, seed: int = 0
) -> TrainPlan:
    config = DataConfig(batch_size=size, batches_per_update=batches, order=order)  # type: ignore[arg-type]
    return TrainPlan(LENGTHS, config, seed=seed, world=world)


@pytest.mark.parametrize("order", ["random", "bucketed"])
def test_every_example_comes_once_an_epoch(order: str) -> None:
    made = plan(order)
    seen: Counter[tuple[int, int]] = Counter()
    for update in range(40):
        for batch in made.update(update):
            seen.update(batch)
    first = [place for place in seen if place[0] == 0]
    assert sorted(index for _, index in first) == list(range(37))
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("order", ["random", "bucketed"])
def test_two_processes_share_the_updates_of_one(order: str) -> None:
    one, two = plan(order, batches=2), plan(order, batches=2, world=2)
    for update in (0, 3, 11):
        assert one.update(update) == two.update(update)
    shares = [
        list(TrainSampler(two, rank=rank, world=2, start=0, total_updates=6)) for rank in (0, 1)
    ]
    joined = [batch for pair in zip(*shares, strict=True) for batch in pair]
    assert joined == [batch for update in range(6) for batch in one.update(update)]


def test_more_processes_than_batches_cut_the_batches() -> None:
    one, four = plan("random", size=8), plan("random", size=8, world=4)
    assert [len(batch) for batch in four.update(2)] == [2, 2, 2, 2]
    assert [place for batch in four.update(2) for place in batch] == one.update(2)[0]


@pytest.mark.parametrize("order", ["random", "bucketed"])
def test_a_resumed_sampler_goes_on_where_the_first_stopped(order: str) -> None:
    made = plan(order, batches=2)
    whole = list(TrainSampler(made, rank=0, world=1, start=0, total_updates=9))
    rest = TrainSampler(plan(order, batches=2), rank=0, world=1, start=4, total_updates=9)
    assert list(rest) == whole[8:]
    assert len(rest) == len(whole)  # as Lightning wants it


def test_bucketed_batches_hold_about_the_stated_average_and_little_padding() -> None:
    lengths = np.random.default_rng(1).integers(30_000, 240_000, 2_000)
    config = DataConfig(batch_size=16, batches_per_update=1, order="bucketed")
    made = TrainPlan(lengths, config, seed=0)
    batches = [made.update(u)[0] for u in range(round(made.batches_per_epoch))]
    assert abs(np.mean([len(b) for b in batches]) - 16) < 1
    padded = sum(len(b) * max(lengths[i] for _, i in b) for b in batches)
    assert padded < 1.03 * lengths.sum()


def test_the_order_depends_on_seed_and_epoch() -> None:
    assert plan("random").update(0) != plan("random", seed=1).update(0)
    made = plan("random", size=37)
    first, second = ([i for _, i in made.update(u)[0]] for u in (0, 1))
    assert first != second


class Toy(TrainedTask[TaskConfig]):
    """Examples that are files, nothing more."""

    name, corpus = "toy", "toy"
    monitor = mode = headline = ""

    def __init__(self, examples: dict[str, list[Example]]):
        super().__init__(TaskConfig(), Sources("official", {}), framing=ConvolutionFraming())
        self._examples = examples

    def examples(self, split: str) -> list[Example]:
        return self._examples[split]

    def head(self, *_: Any) -> Any: ...
    def loss(self, *_: Any) -> Any: ...
    def predict(self, *_: Any) -> Any: ...
    def readable(self, *_: Any) -> Any: ...
    def score(self, *_: Any) -> Any: ...


@pytest.fixture
def toy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TaskData]:
    folder = tmp_path_factory.mktemp("toy")

    def make(seconds: list[float], **kwargs: Any) -> TaskData:
        examples = []
        for number, length in enumerate(seconds):
            path = folder / f"{number}-{length}.wav"
            soundfile.write(path, np.full(round(length * SAMPLE_RATE), 0.1), SAMPLE_RATE)
            examples.append(Example(str(number), str(path), 0, round(length * SAMPLE_RATE)))
        config = DataConfig(
            batch_size=2, batches_per_update=1, order="random", eval_seconds=2.0, num_workers=0
        )
        splits = {"train": examples, "dev": examples, "test": examples[:1]}
        return TaskData(Toy(splits), config, total_updates=3, seed=0, **kwargs)

    return make


def test_evaluation_goes_by_length_and_seconds_and_sees_all(toy: Callable[..., TaskData]) -> None:
    batches = list(toy([0.3, 1.0, 0.5, 0.9, 3.0]).val_dataloader())
    assert [b.ids for b in batches] == [["4"], ["1", "3"], ["2", "0"]]
    assert all(len(b.ids) * b.waveforms.shape[1] <= 2 * SAMPLE_RATE for b in batches[1:])


def test_evaluation_is_shared_by_processes_without_leaving_one_idle(
    toy: Callable[..., TaskData],
) -> None:
    parts = [toy([0.3, 1.0, 3.0], rank=r, world=4).val_dataloader() for r in range(4)]
    seen = [name for part in parts for batch in part for name in batch.ids]
    assert set(seen) == {"0", "1", "2"}
    assert all(len(part) == 1 for part in parts)


def test_workers_do_not_change_batches(toy: Callable[..., TaskData]) -> None:
    data = toy([0.3, 1.0, 0.5])
    here = list(data.eval_dataloader("dev"))
    data.config = DataConfig(
        batch_size=2, batches_per_update=1, order="random", eval_seconds=2.0, num_workers=2
    )
    for a, b in zip(here, data.eval_dataloader("dev"), strict=True):
        torch.testing.assert_close(a.waveforms, b.waveforms)
        assert a.ids == b.ids


def test_one_utterance_is_enough(toy: Callable[..., TaskData]) -> None:
    data = toy([0.5])
    assert data.plan.update(1) == [[(2, 0), (3, 0)]]


def test_an_utterance_shorter_than_a_frame_is_named(toy: Callable[..., TaskData]) -> None:
    with pytest.raises(AudioError, match=r"0\.02\.wav: 320 samples of 0, one frame needs 400"):
        list(toy([0.02]).val_dataloader())


def test_an_empty_split_is_refused() -> None:
    config = DataConfig(batch_size=2, batches_per_update=1, order="random")
    with pytest.raises(ValueError, match="toy: no examples in split train"):
        TaskData(Toy({"train": [], "dev": [], "test": []}), config, total_updates=1, seed=0)


def test_padding_share_is_that_of_the_first_epoch(toy: Callable[..., TaskData]) -> None:
    data = toy([1.0, 0.5, 1.0, 0.5])
    rows = [row for update in (0, 1) for row in data.plan.update(update)]
    lengths = [[(1.0, 0.5, 1.0, 0.5)[i] for _, i in row] for row in rows]
    padded = sum(max(row) * len(row) for row in lengths)
    assert data.padding_share == pytest.approx(1 - 3.0 / padded)
    assert data.counts()["padding_share"] == round(data.padding_share, 4)


def test_batches_made_one_hold_the_same_examples_in_the_same_updates(
    toy: Callable[..., TaskData],
) -> None:
    data = toy([0.3, 1.0, 0.5, 0.9, 3.0])
    data.config = DataConfig(batch_size=2, batches_per_update=4, order="random", num_workers=0)
    for world in (1, 2):
        data.world = world
        data.plan = TrainPlan(data._lengths("train"), data.config, seed=0, world=world)
        before = [[p for batch in data.plan.update(u) for p in batch] for u in range(4)]
        data.pool()
        assert data.plan.batches_per_update == world
        after = [[p for batch in data.plan.update(u) for p in batch] for u in range(4)]
        assert after == before
    assert data.padding_share == 0.0


def test_a_seed_of_its_own_decides_the_order(toy: Callable[..., TaskData]) -> None:
    data = toy([0.3, 1.0, 0.5, 0.9, 3.0])
    config = DataConfig(batch_size=2, batches_per_update=1, order="random", seed=5)
    one, two = (TaskData(data.task, config, total_updates=3, seed=s) for s in (0, 1))
    other = TaskData(data.task, data.config, total_updates=3, seed=5)
    for update in range(3):
        assert one.plan.update(update) == two.plan.update(update) == other.plan.update(update)


@pytest.mark.parametrize("name", ["batch_size", "batches_per_update"])
def test_the_size_of_a_batch_must_be_said(name: str) -> None:
    sizes = {"batch_size": 2, "batches_per_update": 1}
    del sizes[name]
    with pytest.raises(ValueError, match=rf"data\.{name} must be at least 1 \(got 0\)"):
        DataConfig(order="random", **sizes)
    DataConfig(order="random", seconds_per_batch=10.0)


def test_seconds_become_utterances_and_batches() -> None:
    config = DataConfig(order="bucketed", seconds_per_batch=30.0, seconds_per_update=120.0)
    lengths = np.full(100, 5 * 16_000)
    found = sized(config, lengths)
    assert (found.batch_size, found.batches_per_update) == (6, 4)
    assert found.seconds_per_batch is None
