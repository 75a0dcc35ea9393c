# SPDX-License-Identifier: Apache-2.0
"""HuBERT, wav2vec 2.0 and WavLM as torchaudio bundles them, `UPSTREAM=torchaudio:HUBERT_BASE`."""

import math
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.checkpoint_file import DamagedFileError, why_unreadable
from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.upstreams.python import OwnUpstream
from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.model.transformers_encoder import digest_of_tensors


def load(config: UpstreamConfig) -> tuple[Frozen, str]:
    """The bundle called `upstream.source`, and the hash of its weights.

    Raises:
        ValueError: naming the key, if there is no such bundle, or its file, if it is damaged.
        FileNotFoundError: if it is not here and `upstream.download` is not set.
    """
    bundle = _bundle(str(config.source))
    model = _model(bundle, config)
    layers = BundledLayers(getattr(model, "model", model), normalize=bundle._normalize_waveform)
    digest = digest_of_tensors(layers)
    # Its group norm sees padding, so no row is given any.
    return Frozen(OwnUpstream(layers, layers), precision=config.precision, grouped=False), digest


def depends_on(config: UpstreamConfig) -> str:
    """Nothing beside the weights."""
    return ""


def recognizes(path: Path) -> bool:
    """Nothing: a bundle has a name, its file has no description."""
    return False


def _bundle(name: str) -> Any:
    from torchaudio import pipelines

    kind = pipelines.Wav2Vec2Bundle
    names = [n for n in dir(pipelines) if isinstance(getattr(pipelines, n), kind)]
    if name not in names:
        raise ValueError(
            f"upstream.source must be a bundle of torchaudio where upstream.kind=torchaudio (got "
            f"{name}); there are {', '.join(names)}"
        )
    return getattr(pipelines, name)


def _model(bundle: Any, config: UpstreamConfig) -> Any:
    file = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(bundle._path).name
    if not file.is_file() and not config.download:
        raise FileNotFoundError(
            f"torchaudio's {config.source} is not on this machine ({file}): add "
            f"upstream.download=true to fetch it"
        )
    try:
        # A bundle is tensors alone: no code in a file is executed.
        return bundle.get_model(dl_kwargs={"weights_only": True})
    except (RuntimeError, EOFError, UnpicklingError) as error:
        reason = why_unreadable(file, kind="torch")
        raise DamagedFileError(
            f"{file} cannot be read: {reason}. Remove it, and upstream.download=true fetches it"
        ) from error


class BundledLayers(nn.Module):
    """What enters each block, and what leaves the encoder: the layers that transformers gives.

    Args:
        model: `torchaudio.models.Wav2Vec2Model`.
        normalize: Whether waveforms have zero mean and unit variance.
    """

    def __init__(self, model: nn.Module, *, normalize: bool):
        super().__init__()
        self.model, self.normalize = model, normalize
        parts: Any = model
        self._transformer = parts.encoder.transformer
        convolutions = parts.feature_extractor.conv_layers
        self.kernels = tuple(layer.kernel_size for layer in convolutions)
        self.strides = tuple(layer.stride for layer in convolutions)
        self.stride = math.prod(self.strides)
        self.dim = int(self._transformer.layer_norm.normalized_shape[0])
        self.num_layers = len(self._transformer.layers) + 1

    def num_frames(self, num_samples: int) -> int:
        """Frames as the convolutions count them."""
        return conv_lengths(num_samples, self.kernels, self.strides)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        """Waveforms (B, T) without padding, lengths (B,) -> num_layers of (B, F, D)."""
        if self.normalize:  # a row at a time; torchaudio would take all rows together
            waveforms = F.layer_norm(waveforms, waveforms.shape[-1:])
        layers: list[Tensor] = []
        hooks = [
            layer.register_forward_pre_hook(lambda _, inputs: layers.append(inputs[0]))
            for layer in self._transformer.layers
        ]
        hooks.append(self._transformer.register_forward_hook(lambda *a: layers.append(a[-1])))
        try:
            self.model(waveforms)
        finally:
            for hook in hooks:
                hook.remove()
        return layers
