# SPDX-License-Identifier: Apache-2.0
"""Losses that are not finite are found once an update, with the batch that they are of."""

import torch

from wavlm_lightning.downstream.adapt.loss_watch import LossWatch

INF = float("inf")


def test_the_first_bad_batch_of_each_loss_is_named() -> None:
    watch = LossWatch()
    watch.add(torch.tensor([1.0, 2.0, 3.0]), ["a", "b"])
    watch.add(torch.tensor([1.0, INF, 3.0]), ["c"])
    watch.add(torch.tensor([1.0, float("nan"), -INF]), ["d", "e", "f", "g", "h"])
    found = watch.look(world=1)
    assert {number: str(bad) for number, bad in found.items()} == {
        1: "the loss is inf on c",
        2: "the loss is -inf on d, e, f, g and 1 more",
    }


def test_a_look_forgets_what_it_saw() -> None:
    watch = LossWatch()
    watch.add(torch.tensor([INF]), ["a"])
    assert list(watch.look(world=1)) == [0]
    watch.add(torch.tensor([1.0]), ["b"])
    assert watch.look(world=1) == {}


def test_nothing_is_read_before_the_look() -> None:
    watch = LossWatch()
    for _ in range(3):
        watch.add(torch.zeros(2, device="meta"), ["a"])  # would raise
