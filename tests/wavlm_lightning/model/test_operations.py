# SPDX-License-Identifier: Apache-2.0
"""The count of operations, beside torch's own counter on the model itself."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.model.kernels import plain_operations
from wavlm_lightning.model.operations import forward_operations


@pytest.mark.parametrize("seconds", [1, 4])
@pytest.mark.parametrize("style", ["base", "large"])
def test_count_is_that_of_torch_within_three_percent(style: str, seconds: int) -> None:
    config = dataclasses.replace(
        WavLMConfig.preset(style), num_layers=2, dim=256, ffn_dim=1024, num_heads=4,
        feature_encoder_dim=64, attention="eager",
    )  # fmt: skip
    samples = seconds * 16_000
    model = WavLM(config).eval()
    # The counter does not know what kernels are made of.
    with torch.no_grad(), plain_operations(), FlopCounterMode(display=False) as counter:
        model(torch.randn(1, samples), torch.tensor([samples]))
    assert forward_operations(config, samples) == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_base_and_large_cost_what_the_benchmark_says() -> None:
    wanted = {"base": 14.8, "large": 38.4}  # GFLOP a second of a 10 s utterance, by hand
    for size, gflop in wanted.items():
        count = forward_operations(WavLMConfig.preset(size), 160_000)
        assert count / 10 / 1e9 == pytest.approx(gflop, abs=0.05)
