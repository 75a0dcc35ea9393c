# SPDX-License-Identifier: Apache-2.0
"""Speech encoders by transformers: HuBERT, wav2vec 2.0 and their kin, w2v-BERT 2.0, Whisper."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.features.spectrogram_encoders import W2vBert, WhisperEncoder
from wavlm_lightning.model.transformers_encoder import (
    Loaded,
    TransformersEncoder,
    is_transformers,
    load_transformers,
)


def load(config: UpstreamConfig) -> tuple[Frozen, str]:
    """The model at `upstream.source`, and the hash of its weights.

    Raises:
        FileNotFoundError: if nothing is there.
        ModuleNotFoundError: without transformers.
        ValueError: naming the key or source, for one that is missing or does not fit.
    """
    if not config.source:
        raise ValueError(
            "upstream.source is not set: with upstream.kind=transformers it is a folder or hub id"
        )
    found = load_transformers(config.source, download=config.download)
    upstream = _upstream(found, config.source, download=config.download)
    return Frozen(upstream, precision=config.precision), found.sha256


def _upstream(found: Loaded, source: str, *, download: bool) -> Any:
    import transformers

    if found.type == "wav2vec2-bert":
        cls: Any = transformers.SeamlessM4TFeatureExtractor
        return W2vBert(found.model, _extractor(cls, source, download=download))
    if found.type == "whisper":
        about: Any = found.model.config
        cls = transformers.WhisperFeatureExtractor
        extractor = _extractor(cls, source, download=download, feature_size=about.num_mel_bins)
        return WhisperEncoder(found.model, extractor)
    return TransformersUpstream(found.model, normalize=found.normalize)


def _extractor(cls: Any, source: str, *, download: bool, **otherwise: Any) -> Any:
    """The feature extractor that lies beside a model; the library's own where there is none."""
    try:
        return cls.from_pretrained(source, local_files_only=not download)
    except OSError:
        return cls(**otherwise)


def depends_on(config: UpstreamConfig) -> str:
    """Nothing beside the weights."""
    return ""


def recognizes(path: Path) -> bool:
    """A folder whose config.json is of one of these models."""
    return is_transformers(path)


class TransformersUpstream(nn.Module):
    """All layers of an encoder that reads waveforms.

    Args:
        model: Of transformers.
        normalize: See `TransformersEncoder`.
    """

    def __init__(self, model: nn.Module, *, normalize: bool | None = None):
        super().__init__()
        self.encoder = TransformersEncoder(model, normalize=normalize)
        self.dim, self.num_layers = self.encoder.dim, self.encoder.num_layers
        self.stride = self.encoder.stride

    def num_frames(self, num_samples: int) -> int:
        """Frames as the convolutions count them."""
        return self.encoder.num_frames(num_samples)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> num_layers + 1 of (B, F, D), lengths (B,)."""
        layers = self.encoder(self.encoder.normalized(waveforms, lengths), lengths)
        return Features(layers, torch.tensor([self.num_frames(int(n)) for n in lengths]))
