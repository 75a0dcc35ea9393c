# SPDX-License-Identifier: Apache-2.0
"""Dropout without a stored mask: rate, scale, the same mask when going back."""

import pytest
import torch

from wavlm_lightning.model.kernels.dropout import draw_seed, dropout, keep_mask


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_of_dropped_elements_is_the_rate(rate: float, dtype: torch.dtype) -> None:
    kept = keep_mask(torch.Size((500, 1001)), rate, seed=1, like=torch.zeros(1, dtype=dtype))
    assert kept.dtype == dtype
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert abs(float((kept == 0).double().mean()) - rate) < 0.003


def test_kept_elements_are_scaled_and_the_gradient_has_the_same_mask() -> None:
    torch.manual_seed(0)
    x = torch.rand(40, 51, requires_grad=True) + 1
    y = dropout(x, 0.2, training=True)
    torch.testing.assert_close(y, torch.where(y == 0, 0, x / 0.8))
    gradient = torch.autograd.grad(y.sum(), x)[0]
    torch.testing.assert_close(gradient, torch.where(y == 0, 0, 1 / 0.8))
    assert 0.1 < float((y == 0).float().mean()) < 0.3


def test_no_dropout_outside_training() -> None:
    x = torch.rand(4, 5)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x


def test_masks_follow_the_global_seed_and_differ_from_call_to_call() -> None:
    torch.manual_seed(5)
    first, second = draw_seed(), draw_seed()
    torch.manual_seed(5)
    assert (draw_seed(), draw_seed()) == (first, second)
    assert first != second
    size, like = torch.Size((64,)), torch.zeros(1)
    one, two = (keep_mask(size, 0.5, seed=s, like=like) for s in (first, second))
    assert not torch.equal(one, two)


def test_neighbours_are_dropped_independently() -> None:
    kept = keep_mask(torch.Size((1_000_000,)), 0.5, seed=2, like=torch.zeros(1)) - 0.5
    for lag in range(1, 9):
        assert abs(float((kept[lag:] * kept[:-lag]).mean())) < 0.001
