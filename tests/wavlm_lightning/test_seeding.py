# SPDX-License-Identifier: Apache-2.0
"""Random numbers depend on seed, purpose and numbers, and on nothing else."""

import numpy as np
import torch

from wavlm_lightning.seeding import generator, seed_torch, torch_generator, torch_seed


def test_same_ingredients_give_the_same_numbers() -> None:
    first, second = (generator(3, "crop", 1, 7).random(5) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_every_ingredient_changes_the_numbers() -> None:
    wanted = [(3, "crop", 1, 7), (4, "crop", 1, 7), (3, "mask", 1, 7), (3, "crop", 2, 7)]
    wanted += [(3, "crop", 1, 8), (3, "crop", 7, 1), (3, "crop", 1, 2**31)]
    drawn = {float(generator(*ingredients).random()) for ingredients in wanted}
    assert len(drawn) == len(wanted)


def test_utterances_of_an_epoch_have_different_numbers() -> None:
    drawn = {float(generator(0, "crop", 5, i).random()) for i in range(10_000)}
    assert len(drawn) == 10_000


def test_global_state_does_not_matter_and_is_left_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = torch.rand(3, generator=torch_generator(0, "dropout", 5))
    torch.testing.assert_close(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = torch.rand(3, generator=torch_generator(0, "dropout", 5))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_torch_takes_every_seed() -> None:
    for number in range(1_000):
        torch.Generator().manual_seed(torch_seed(0, "dropout", number))


def test_seeding_torch_gives_the_draws_of_manual_seed() -> None:
    seed_torch(3, "dropout", 7)
    ours = torch.rand(5)
    torch.manual_seed(torch_seed(3, "dropout", 7))
    torch.testing.assert_close(ours, torch.rand(5), rtol=0, atol=0)
