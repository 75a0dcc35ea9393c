# SPDX-License-Identifier: Apache-2.0
"""Buckets of relative distance by their published values; the convolutional position embedding."""

import pytest
import torch

from wavlm_lightning.model.position import ConvPosition, relative_buckets

GOLDEN = {
    0: 0,
    -1: 1,
    -79: 79,
    -80: 80,
    -100: 87,
    -200: 111,
    -500: 143,
    -799: 159,
    -1000: 159,
    1: 161,
    79: 239,
    80: 240,
    100: 247,
    200: 271,
    400: 295,
    500: 303,
    790: 319,
}


def test_buckets_have_their_published_values() -> None:
    buckets = relative_buckets(torch.tensor(list(GOLDEN)), 320, max_distance=800)
    assert buckets.tolist() == list(GOLDEN.values())


def test_every_bucket_but_160_is_used() -> None:
    buckets = relative_buckets(torch.arange(-2000, 2001), 320, max_distance=800)
    assert buckets.unique().tolist() == [b for b in range(320) if b != 160]


@pytest.mark.parametrize("kernel", [16, 17, 128])
def test_position_embedding_keeps_the_number_of_frames(kernel: int) -> None:
    position = ConvPosition(32, kernel, groups=4)
    assert position(torch.randn(2, 23, 32)).shape == (2, 23, 32)


def test_position_embedding_is_a_weight_normalised_convolution() -> None:
    torch.manual_seed(0)
    position = ConvPosition(32, 16, groups=4)
    conv = torch.nn.Conv1d(32, 32, 16, padding=8, groups=4)
    conv = torch.nn.utils.parametrizations.weight_norm(conv, dim=2)
    with torch.no_grad():
        for parameter in position.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    names = {
        "weight_g": "parametrizations.weight.original0",
        "weight_v": "parametrizations.weight.original1",
        "bias": "bias",
    }
    conv.load_state_dict({names[n]: p for n, p in position.state_dict().items()})
    x = torch.randn(2, 23, 32)
    expected = torch.nn.functional.gelu(conv(x.transpose(1, 2))[..., :-1]).transpose(1, 2)
    torch.testing.assert_close(position(x), expected)


def test_position_gain_starts_as_the_norm_of_each_tap() -> None:
    position = ConvPosition(32, 16, groups=4)
    norms = position.weight_v.square().sum((0, 1)).sqrt()
    assert position.weight_g.shape == (1, 1, 16)
    torch.testing.assert_close(position.weight_g.flatten(), norms)
