# SPDX-License-Identifier: Apache-2.0
"""WavLM: waveforms and lengths in, every layer and its lengths out.

WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech Processing (Chen et al. 2021).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.lengths import RECEPTIVE_FIELD, block_lengths, conv_lengths, padding_mask
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.dropout import dropout
from wavlm_lightning.model.encoder import Encoder
from wavlm_lightning.model.frontend import FrontEnd


class Features(NamedTuple):
    """What a WavLM makes of a batch."""

    layers: tuple[Tensor, ...]  # num_layers + 1 of (B, F, D); layer 0 enters the first block
    lengths: Tensor  # (B,) int64 valid frames
    frontend: Tensor  # (B, F, C) of the convolutions, before projection and layer norm
    output: Tensor  # (B, F, D) last layer after the final layer norm, whatever `layers` ends with


def normalize_waveforms(waveforms: Tensor, lengths: Tensor | None) -> Tensor:
    """Zero mean and unit variance of each row of (B, T) over its valid samples; padding stays 0."""
    if lengths is None:
        return F.layer_norm(waveforms, waveforms.shape[-1:])
    valid = ~padding_mask(lengths, waveforms.shape[-1])
    centred = waveforms - (waveforms * valid).sum(-1, keepdim=True) / lengths[:, None]
    centred = centred * valid
    variance = centred.square().sum(-1, keepdim=True) / lengths[:, None]
    return centred * torch.rsqrt(variance + 1e-5)


class WavLM(nn.Module):
    """The encoder, without a head; `mask_vector` stands in for hidden frames in pre-training."""

    def __init__(self, config: WavLMConfig):
        super().__init__()
        self.config = config
        self.frontend = FrontEnd(config)
        self.projection_norm = nn.LayerNorm(config.frontend_dim)
        self.projection = nn.Linear(config.frontend_dim, config.dim)
        self.mask_vector = nn.Parameter(torch.rand(config.dim))
        self.encoder = Encoder(config)

    def forward(self, waveforms: Tensor, lengths: Tensor, masked: Tensor | None = None) -> Features:
        """Features of waveforms as they come from a file.

        Args:
            waveforms: (B, T) float32 at 16 kHz in [-1, 1], zero on padding.
            lengths: (B,) int64 valid samples.
            masked: (B, F) bool, True where a frame is hidden from the transformer.

        Raises:
            ValueError: for shapes that do not fit, or an utterance of less than 400 samples.
        """
        _check(waveforms, lengths)
        return self.encode(self.normalized(waveforms, lengths), lengths, masked=masked)

    def normalized(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Waveforms (B, T) as this size wants them."""
        if not self.config.normalize_waveform:
            return waveforms
        return normalize_waveforms(waveforms, _padded(lengths, waveforms.shape[1]))

    def encode(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        *,
        masked: Tensor | None = None,
        silenced: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Features:
        """As `forward`, for waveforms that are already normalised where the size asks for it.

        Args:
            silenced: (B, D) bool, True where a channel of the projected features is zero.
            generator: of the CPU, for LayerDrop.

        Raises:
            ValueError: as `forward`.
        """
        _check(waveforms, lengths)
        samples = _padded(lengths, waveforms.shape[1])
        frontend = self.frontend(waveforms, samples)  # (B, F, C)
        frames = self._frames(lengths, waveforms.shape[1], num_frames=frontend.shape[1])
        x = self.projection(self.projection_norm(frontend))  # (B, F, D)
        x = dropout(x, self.config.input_dropout, training=self.training)
        if masked is not None:
            x = torch.where(masked[..., None], self.mask_vector.to(x.dtype), x)
        if silenced is not None:
            x = x.masked_fill(silenced[:, None], 0.0)
        valid = None if samples is None else frames
        layers, output = self.encoder(x, valid, generator=generator)
        return Features(layers, frames, frontend, output)

    def _frames(self, lengths: Tensor, num_samples: int, *, num_frames: int) -> Tensor:
        if self.config.block_padding:
            return block_lengths(lengths, num_samples, num_frames)
        return conv_lengths(lengths)


def _padded(lengths: Tensor, size: int) -> Tensor | None:
    """The lengths, or None where no row is padded: the un-padded paths are faster."""
    return None if bool((lengths == size).all()) else lengths


def _check(waveforms: Tensor, lengths: Tensor) -> None:
    if waveforms.ndim != 2 or lengths.shape != waveforms.shape[:1] or len(lengths) == 0:
        raise ValueError(
            f"waveforms (B, T) and lengths (B,) are wanted, got {tuple(waveforms.shape)} and "
            f"{tuple(lengths.shape)}"
        )
    if int(lengths.max()) > waveforms.shape[1]:
        raise ValueError(f"a length of {int(lengths.max())} exceeds {waveforms.shape[1]} samples")
    if int(lengths.min()) < RECEPTIVE_FIELD:
        row = int(lengths.argmin())
        raise ValueError(
            f"row {row} has {int(lengths[row])} samples; one frame needs {RECEPTIVE_FIELD} (25 ms)"
        )
