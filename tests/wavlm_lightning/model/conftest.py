# SPDX-License-Identifier: Apache-2.0
"""Small models with nothing left at its initial value, and padded batches of noise."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.lengths import pad_batch


@pytest.fixture(scope="session")
def tiny() -> Callable[..., WavLMConfig]:
    """tiny("large", layer_drop=0.5): Large's mechanisms at a size that runs in milliseconds."""

    def make(size: str, **changes: Any) -> WavLMConfig:
        shape = {
            "num_layers": 2,
            "dim": 64,
            "ffn_dim": 128,
            "num_heads": 4,
            "feature_encoder_dim": 32,
            "position_kernel": 16,
        }
        return dataclasses.replace(WavLMConfig.preset(size), **{**shape, **changes})

    return make


@pytest.fixture(scope="session")
def build() -> Callable[..., WavLM]:
    """A model in evaluation mode whose biases, gains and position table matter to the output."""

    def make(config: WavLMConfig, *, seed: int = 0, noise: float = 0.1) -> WavLM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = WavLM(config).eval()
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                scale = 1.0 if name == "encoder.position_bias.weight" else noise
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=scale)
        return model

    return make


@pytest.fixture(scope="session")
def batch() -> Callable[..., tuple[Tensor, Tensor]]:
    """batch(800, 400) -> zero-padded noise (2, 800) and its lengths."""

    def make(*lengths: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return pad_batch([torch.randn(n, generator=generator) for n in lengths])

    return make


@pytest.fixture(params=["base", "large"])
def size(request: pytest.FixtureRequest) -> str:
    """Whose mechanisms."""
    return request.param


@pytest.fixture
def model(tiny: Callable[..., WavLMConfig], build: Callable[..., WavLM], size: str) -> WavLM:
    """A small model of each kind."""
    return build(tiny(size))
