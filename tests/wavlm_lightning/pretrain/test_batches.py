# SPDX-License-Identifier: Apache-2.0
"""The plan of an epoch: what is in it, how it is shared, and how it goes on after a stop."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.pretrain.batches import (
    BUCKET_RATIO,
    BatchPlan,
    PlanSampler,
    bucket_sizes,
    crop_grid,
    crop_size,
    on_grid,
)

MAX_SAMPLES = 250_000


def make_plan(count: int = 400, **changes: Any) -> BatchPlan:
    lengths = np.random.default_rng(0).integers(32_000, 500_000, count)
    options = {"seconds_per_batch": 60.0, "batches_per_update": 4, "seed": 0} | changes
    return BatchPlan(lengths, max_samples=MAX_SAMPLES, **options)


def indices(plan: BatchPlan, epoch: int) -> list[int]:
    return [int(i) for update in plan.epoch(epoch) for batch in update for i in batch]


def as_lists(updates: list[list[np.ndarray]]) -> list[list[list[int]]]:
    return [[batch.tolist() for batch in update] for update in updates]


def test_every_utterance_appears_once_an_epoch() -> None:
    plan = make_plan(batches_per_update=1)
    assert plan.left_out == 0
    for epoch in range(5):
        assert sorted(indices(plan, epoch)) == list(range(400))


def test_left_over_batches_are_all_that_is_missing() -> None:
    plan, whole = make_plan(batches_per_update=7), make_plan(batches_per_update=1)
    assert 0 < plan.left_out < 7
    assert plan.left_out == whole.updates - 7 * plan.updates
    found = indices(plan, 0)
    assert len(found) == len(set(found)) < 400


def test_left_over_batches_differ_between_epochs() -> None:
    plan = make_plan(batches_per_update=7)
    missing = [frozenset(set(range(400)) - set(indices(plan, epoch))) for epoch in range(5)]
    assert len(set(missing)) == 5


def test_no_batch_holds_more_seconds_than_allowed() -> None:
    plan = make_plan(seconds_per_batch=40.0, batches_per_update=1)
    sizes = np.minimum(plan.num_samples, MAX_SAMPLES)
    for epoch in range(5):
        for (batch,) in plan.epoch(epoch):
            assert sizes[batch].max() * len(batch) <= 40 * 16_000


def test_batches_are_as_full_as_their_buckets_allow() -> None:
    plan = make_plan(batches_per_update=1)
    used = [
        bucket_sizes(plan.num_samples[batch], MAX_SAMPLES).max() * (len(batch) + 1)
        for (batch,) in plan.epoch(0)
    ]
    assert sum(u <= 60 * 16_000 for u in used) <= 1  # the last of the sorted order may be small


def test_bucket_covers_its_utterance_and_at_most_five_percent_more() -> None:
    num_samples = np.arange(400, 60_000)
    sizes = bucket_sizes(num_samples, 50_000)
    capped = np.minimum(num_samples, 50_000)
    assert (sizes >= capped).all()
    assert (sizes <= capped * BUCKET_RATIO + 1).all()
    assert sizes.max() == 50_000


def test_utterances_of_a_batch_are_nearly_equally_long() -> None:
    plan = make_plan(4000, batches_per_update=1)
    sizes = np.minimum(plan.num_samples, MAX_SAMPLES)
    kept = [sizes[b].min() * len(b) / sizes[b].sum() for (b,) in plan.epoch(0)]
    assert np.mean(kept) > 0.95  # share that is left after cropping to the shortest


def test_every_epoch_has_as_many_batches() -> None:
    plan = make_plan()
    for epoch in range(21):
        assert [len(update) for update in plan.epoch(epoch)] == [4] * plan.updates


def test_epochs_differ() -> None:
    plan = make_plan()
    assert as_lists(plan.epoch(0)) != as_lists(plan.epoch(1))


def test_utterances_meet_other_ones_in_other_epochs() -> None:
    plan = make_plan(batches_per_update=1)
    first, second = ({frozenset(b.tolist()) for (b,) in plan.epoch(e)} for e in (0, 1))
    assert len(first & second) < len(first) / 2


def test_same_seed_gives_the_same_plan() -> None:
    assert as_lists(make_plan().epoch(3)) == as_lists(make_plan().epoch(3))


def test_other_seed_gives_another_plan() -> None:
    assert as_lists(make_plan().epoch(3)) != as_lists(make_plan(seed=1).epoch(3))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_updates_do_not_depend_on_the_number_of_processes(world: int) -> None:
    plan = make_plan()
    ranks = [list(PlanSampler(plan, rank=r, world=world, epoch=2)) for r in range(world)]
    each = 4 // world
    for number, update in enumerate(as_lists(plan.epoch(2))):
        shared = [batch for rank in ranks for _, batch in rank[number * each : (number + 1) * each]]
        assert sorted(shared) == sorted(update)


def test_ranks_have_equally_many_batches() -> None:
    plan = make_plan()
    for rank in range(4):
        sampler = PlanSampler(plan, rank=rank, world=4)
        assert len(list(sampler)) == len(sampler) == plan.updates


def test_sampler_says_the_epoch_of_each_batch() -> None:
    sampler = PlanSampler(make_plan(), rank=0, world=1, epoch=3)
    assert {epoch for epoch, _ in sampler} == {3}


@pytest.mark.parametrize("start", [0, 1, 7, 20])
def test_resumed_sampler_yields_the_remaining_batches(start: int) -> None:
    plan = make_plan()
    whole = list(PlanSampler(plan, rank=1, world=2, epoch=2))
    assert list(PlanSampler(plan, rank=1, world=2, epoch=2, start=start)) == whole[start:]


def test_same_epoch_keeps_the_start() -> None:
    plan = make_plan()
    sampler = PlanSampler(plan, rank=0, world=1, epoch=2, start=5)
    sampler.set_epoch(2)
    assert list(sampler) == list(PlanSampler(plan, rank=0, world=1, epoch=2))[5:]


def test_new_epoch_starts_at_its_beginning() -> None:
    plan = make_plan()
    sampler = PlanSampler(plan, rank=0, world=1, epoch=2, start=5)
    sampler.set_epoch(3)
    assert list(sampler) == list(PlanSampler(plan, rank=0, world=1, epoch=3))


def test_length_is_that_of_a_whole_epoch() -> None:
    plan = make_plan()
    sampler = PlanSampler(plan, rank=0, world=2, epoch=2, start=5)
    before = len(sampler)
    list(sampler)
    sampler.set_epoch(3)
    assert before == len(sampler) == plan.updates * 2


def test_too_little_audio_is_refused_with_the_key() -> None:
    message = r"batches, an update needs 1000: lower data\.audio_seconds_per_update"
    with pytest.raises(ValueError, match=message):
        make_plan(batches_per_update=1000)


def test_too_long_utterance_is_refused_with_both_keys() -> None:
    message = r"data\.seconds_per_batch=10 is less than .* 15\.6 s: .* data\.max_samples"
    with pytest.raises(ValueError, match=message):
        make_plan(seconds_per_batch=10.0)


def test_uneven_share_of_processes_is_refused() -> None:
    with pytest.raises(ValueError, match="4 batches an update over 3 processes"):
        PlanSampler(make_plan(), rank=0, world=3)


def test_two_hundred_thousand_utterances_are_planned() -> None:
    plan = dataclasses.replace(make_plan(200_000), batches_per_update=32)
    assert sum(len(b) for update in plan.epoch(0) for b in update) > 199_000


def test_cropped_share_is_what_is_cut_to_the_shortest_of_a_batch() -> None:
    plan = make_plan(batches_per_update=1)
    share = plan.cropped_share
    assert 0 < share < 1 - 1 / BUCKET_RATIO
    equal = BatchPlan(
        np.full(8, 32_000),
        seconds_per_batch=4.0,
        batches_per_update=1,
        max_samples=MAX_SAMPLES,
        seed=0,
    )
    assert equal.cropped_share == 0


def test_grid_holds_multiples_of_eight_frames_a_few_percent_apart() -> None:
    grid = crop_grid(32_000, 250_000)
    frames = [conv_lengths(int(n)) for n in grid]
    assert all(n % 8 == 0 for n in frames)
    assert (frames[0], frames[-1]) == (96, 776)  # 99 and 781 fit
    steps = np.diff(frames)
    assert (steps >= 8).all()
    assert (steps <= np.maximum(8, 0.07 * np.array(frames[:-1]))).all()
    assert len(grid) == 39


def test_crops_lie_on_the_grid_and_within_every_utterance() -> None:
    grid = crop_grid(32_000, MAX_SAMPLES)
    plan = make_plan(4000, batches_per_update=1, grid=grid)
    sizes = {
        crop_size(np.minimum(plan.num_samples[b], MAX_SAMPLES), grid) for (b,) in plan.epoch(0)
    }
    assert sizes <= set(grid.tolist())
    assert len(sizes) > 30
    for (batch,) in plan.epoch(1):
        size = crop_size(plan.num_samples[batch], grid)
        assert size <= plan.num_samples[batch].min()
        assert size * len(batch) <= 60 * 16_000


def test_an_utterance_below_the_grid_keeps_its_length() -> None:
    grid = np.array([1000, 2000])
    found = on_grid(np.array([999, 1000, 1999, 2000, 9999]), grid)
    assert found.tolist() == [999, 1000, 1000, 2000, 2000]


def test_cropped_share_counts_what_the_grid_costs() -> None:
    any_length, grid = make_plan(4000), make_plan(4000, grid=crop_grid(32_000, MAX_SAMPLES))
    assert any_length.cropped_share < grid.cropped_share < any_length.cropped_share + 0.03
