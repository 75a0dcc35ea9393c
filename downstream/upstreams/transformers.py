# SPDX-License-Identifier: Apache-2.0
"""HuBERT and wav2vec 2.0 by transformers."""

from pathlib import Path

from torch import Tensor, nn

from downstream.features.config import UpstreamConfig
from downstream.features.frames import Features
from downstream.features.frozen import Frozen
from wavlm_lightning.lengths import HOP, conv_lengths
from wavlm_lightning.model.transformers_encoder import (
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
    model, digest = load_transformers(config.source, download=config.download)
    return Frozen(TransformersUpstream(model), precision=config.precision), digest


def depends_on(config: UpstreamConfig) -> str:
    """Nothing beside the weights."""
    return ""


def recognizes(path: Path) -> bool:
    """A folder whose config.json is of one of these models."""
    return is_transformers(path)


class TransformersUpstream(nn.Module):
    """All layers of a HuBERT or wav2vec 2.0."""

    stride = HOP

    def __init__(self, model: nn.Module):
        super().__init__()
        self.encoder = TransformersEncoder(model)
        self.dim, self.num_layers = self.encoder.dim, self.encoder.num_layers

    def num_frames(self, num_samples: int) -> int:
        """Frames as the convolutions count them, which are WavLM's."""
        return conv_lengths(num_samples)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> num_layers + 1 of (B, F, D), lengths (B,)."""
        layers = self.encoder(self.encoder.normalized(waveforms, lengths), lengths)
        return Features(layers, conv_lengths(lengths))
