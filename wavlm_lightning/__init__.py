# SPDX-License-Identifier: Apache-2.0
"""WavLM from raw audio: the encoder, its pre-training and its checkpoints.

>>> import torch
>>> model = WavLM(WavLMConfig.mini()).eval()
>>> features = model(torch.randn(2, 16_000), torch.tensor([16_000, 12_000]))
>>> len(features.layers), features.layers[-1].shape, features.lengths
(5, torch.Size([2, 49, 192]), tensor([49, 37]))
"""

from typing import Any

from wavlm_lightning.model.checkpoint import load_wavlm
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.wavlm import Features, WavLM

__all__ = ["Features", "Pretrainer", "WavLM", "WavLMConfig", "load_wavlm"]


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import, and whoever needs features alone can do without. What is
    # above this package is imported when it is asked for, so that nothing here depends on it.
    if name == "Pretrainer":
        from wavlm_lightning.pretrain.pretrainer import Pretrainer

        return Pretrainer
    if name == "evaluate":
        from recipes.superb.api import evaluate

        return evaluate
    if name == "Predictor":
        from downstream.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__} has no attribute {name}")
