# SPDX-License-Identifier: Apache-2.0
"""WavLM from raw audio: the encoder, its pre-training, its checkpoints and its evaluation.

>>> import torch
>>> from wavlm_lightning import WavLM, WavLMConfig
>>> model = WavLM(WavLMConfig.mini()).eval()
>>> features = model(torch.randn(2, 16_000), torch.tensor([16_000, 12_000]))
>>> len(features.layers), features.layers[-1].shape, features.lengths
(5, torch.Size([2, 49, 192]), tensor([49, 37]))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavlm_lightning.downstream.predictor import Predictor
    from wavlm_lightning.model.checkpoint import load_wavlm
    from wavlm_lightning.model.config import WavLMConfig
    from wavlm_lightning.model.wavlm import Features, WavLM
    from wavlm_lightning.pretrain.data import PretrainData
    from wavlm_lightning.pretrain.pretrainer import Pretrainer
    from wavlm_lightning.recipes.pretrain.api import pretraining
    from wavlm_lightning.recipes.superb.api import evaluate

__all__ = [
    "Features",
    "Predictor",
    "PretrainData",
    "Pretrainer",
    "WavLM",
    "WavLMConfig",
    "evaluate",
    "load_wavlm",
    "pretraining",
]

# Imported when they are asked for: Lightning takes seconds, which whoever needs features alone can
# do without; a command sets how threads wait before torch is imported; and what is above the model
# is not imported by what is below.
_HOME = {
    "Features": "model.wavlm",
    "PretrainData": "pretrain.data",
    "Predictor": "downstream.predictor",
    "Pretrainer": "pretrain.pretrainer",
    "WavLM": "model.wavlm",
    "WavLMConfig": "model.config",
    "evaluate": "recipes.superb.api",
    "load_wavlm": "model.checkpoint",
    "pretraining": "recipes.pretrain.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from wavlm_lightning.shipped import version

        return version()
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
