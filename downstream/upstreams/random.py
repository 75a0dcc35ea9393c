# SPDX-License-Identifier: Apache-2.0
"""A WavLM that was never trained, as a control."""

from dataclasses import replace
from pathlib import Path

import torch

from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.upstreams.wavlm import frozen_wavlm
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.seeding import torch_seed


def load(config: UpstreamConfig) -> tuple[Frozen, str]:
    """A model of `upstream.size` with first weights of `upstream.seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(config.seed, "random upstream"))
        preset = WavLMConfig.preset(config.size)
        model = WavLM(replace(preset, masked_group_norm=config.masked_group_norm))
    return frozen_wavlm(model, config), "none"


def depends_on(config: UpstreamConfig) -> str:
    """Size and seed, in place of a hash of weights."""
    return f"{config.size} {config.seed}"


def recognizes(path: Path) -> bool:
    """Nothing: it lies in no file."""
    return False
