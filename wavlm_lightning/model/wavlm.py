# SPDX-License-Identifier: Apache-2.0
"""WavLM: waveforms and lengths in, every layer and its lengths out.

WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech Processing (Chen et al. 2021).
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.lengths import (
    RECEPTIVE_FIELD,
    block_lengths,
    conv_lengths,
    pad_batch,
    padding_mask,
)
from wavlm_lightning.model.config import COMPILABLE, WavLMConfig
from wavlm_lightning.model.earlier_names import current_parameters
from wavlm_lightning.model.encoder import Encoder
from wavlm_lightning.model.feature_encoder import FeatureEncoder
from wavlm_lightning.model.hub import upload
from wavlm_lightning.model.kernels.dropout import dropout


class Features(NamedTuple):
    """What a WavLM makes of a batch."""

    layers: tuple[Tensor, ...]  # num_layers + 1 of (B, F, D); layer 0 enters the first block
    lengths: Tensor  # (B,) int64 valid frames, on the host
    conv_features: Tensor  # (B, F, C) of the feature encoder, before layer norm and projection
    output: Tensor  # (B, F, D) last layer after the final layer norm, whatever `layers` ends with


def normalize_waveforms(waveforms: Tensor, lengths: Tensor | None) -> Tensor:
    """Zero mean and unit variance of each row of (B, T) over its valid samples; padding stays 0."""
    if lengths is None:
        return F.layer_norm(waveforms, waveforms.shape[-1:])
    lengths = lengths.to(waveforms.device, non_blocking=True)
    valid = ~padding_mask(lengths, waveforms.shape[-1])
    centred = waveforms - (waveforms * valid).sum(-1, keepdim=True) / lengths[:, None]
    centred = centred * valid
    variance = centred.square().sum(-1, keepdim=True) / lengths[:, None]
    return centred * torch.rsqrt(variance + 1e-5)


class WavLM(nn.Module):
    """The encoder, without a head; `mask_embedding` stands in for masked frames in pre-training."""

    def __init__(self, config: WavLMConfig):
        super().__init__()
        self.config = config
        self.feature_encoder = FeatureEncoder(config)
        self.projection_norm = nn.LayerNorm(config.feature_encoder_dim)
        self.projection = nn.Linear(config.feature_encoder_dim, config.dim)
        self.mask_embedding = nn.Parameter(torch.rand(config.dim))
        self.encoder = Encoder(config)
        self.register_load_state_dict_pre_hook(_rename_earlier)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, download: bool = False) -> "WavLM":
        """Load a file, a folder or a hub id by `load_wavlm`, in evaluation mode."""
        from wavlm_lightning.model.checkpoint import load_wavlm

        return load_wavlm(source, download=download)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that transformers' `WavLMModel.from_pretrained` and ours read."""
        from wavlm_lightning.model.checkpoint import save_transformers

        Path(folder).mkdir(parents=True, exist_ok=True)
        save_transformers(self, Path(folder))

    def push_to_hub(self, name: str, *, private: bool = False) -> str:
        """Upload such a folder to where the user is logged in, and return its address.

        Raises:
            ModuleNotFoundError, OSError: as `upload`.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload(Path(folder), name, private=private)

    @torch.no_grad()
    def extract(self, recordings: Tensor | Sequence[Tensor]) -> Features:
        """Features in evaluation mode, without gradient; padding is seen to.

        Args:
            recordings: Samples at 16 kHz: (T,), (B, T) of equal lengths, or a list of (T_i,).

        Raises:
            ValueError: as `forward`.
        """
        lengths = None
        if not isinstance(recordings, Tensor):
            recordings, lengths = pad_batch(recordings)
        elif recordings.ndim == 1:
            recordings = recordings[None]
        device = self.mask_embedding.device
        was_training = self.training
        try:
            features: Features = self.eval()(recordings.float().to(device), lengths)
        finally:
            self.train(was_training)
        return features

    def recompute_blocks(self, recompute: bool) -> None:
        """Whether blocks keep their input alone in training, and run again in the backward pass."""
        self.encoder.recompute = recompute

    def compile_regions(
        self, backend: str = "inductor", *, dynamic: bool = True, mode: str | None = None
    ) -> None:
        """Compile the convolutions, the position embedding and each block for all shapes at once.

        Regions, not the whole: between them LayerDrop chooses blocks, which would be another graph
        for each choice. Blocks share one. Names of parameters stay as they are. Options are those
        of `torch.compile`.

        Raises:
            ValueError: for a back-end of attention that a compiler cannot read.
        """
        if self.config.attention not in COMPILABLE:
            raise ValueError(
                f"model.attention must be {' or '.join(COMPILABLE)} to be compiled (got "
                f"{self.config.attention})"
            )
        # Beyond the limit torch would run the region uncompiled without a word.
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        for region in (self.feature_encoder.layers, self.encoder.position, *self.encoder.layers):
            region.compile(dynamic=dynamic, fullgraph=True, backend=backend, mode=mode)
        self.feature_encoder.compiled = self.encoder.compiled = True

    def forward(
        self, waveforms: Tensor, lengths: Tensor | None = None, masked: Tensor | None = None
    ) -> Features:
        """Features of waveforms as they come from a file.

        Args:
            waveforms: (B, T) float32 at 16 kHz in [-1, 1], zero on padding.
            lengths: (B,) int64 valid samples; None: all of them. Best on the host, wherever the
                waveforms are: what is read of them there costs a GPU nothing.
            masked: (B, F) bool, True where the mask embedding replaces a frame.

        Raises:
            ValueError: for shapes that do not fit, or an utterance of less than 400 samples.
        """
        return self.encode(self.normalized(waveforms, lengths), lengths, masked=masked)

    def normalized(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """Waveforms (B, T) as this size was trained on; ValueError as `forward`."""
        samples = _padded(waveforms, lengths)
        if not self.config.normalize_waveform:
            return waveforms
        return normalize_waveforms(waveforms, samples)

    def encode(
        self,
        waveforms: Tensor,
        lengths: Tensor | None = None,
        *,
        masked: Tensor | None = None,
        channel_mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        num_blocks: int | None = None,
    ) -> Features:
        """Features of waveforms that are already normalised where the size asks for it.

        Args:
            channel_mask: (B, D) bool, True where a channel of the projected features is zero.
            generator: of the CPU, for LayerDrop.
            num_blocks: Blocks to run, the first ones; None: all.

        Raises:
            ValueError: as `forward`.
        """
        samples = _padded(waveforms, lengths)
        conv_features = self.feature_encoder(waveforms, samples)  # (B, F, C)
        x = self.projection(self.projection_norm(conv_features))  # (B, F, D)
        x = dropout(x, self.config.input_dropout, training=self.training)
        if masked is not None:
            x = torch.where(masked[..., None], self.mask_embedding.to(x.dtype), x)
        if channel_mask is not None:
            x = x.masked_fill(channel_mask[:, None], 0.0)
        frames = None if samples is None else self._frames(samples, waveforms.shape[1], x.shape[1])
        layers, output = self.encoder(x, frames, generator=generator, num_blocks=num_blocks)
        if frames is None:
            frames = torch.full(x.shape[:1], x.shape[1])
        return Features(layers, frames, conv_features, output)

    def _frames(self, lengths: Tensor, num_samples: int, num_frames: int) -> Tensor:
        if self.config.block_padding:
            return block_lengths(lengths, num_samples, num_frames)
        return conv_lengths(lengths)


def _rename_earlier(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: object) -> None:
    """Let checkpoints load whose parameters have earlier names."""
    for old, tensor in list(state.items()):
        (new,) = current_parameters({old: tensor}, prefix=prefix)
        if new != old:
            state[new] = state.pop(old)


def _padded(waveforms: Tensor, lengths: Tensor | None) -> Tensor | None:
    """The lengths on the host, or None where no row is padded: the un-padded paths are faster.

    Raises:
        ValueError: see `WavLM.forward`.
    """
    if lengths is not None:
        lengths = lengths.cpu()
        _check(waveforms, lengths)
        return None if bool((lengths == waveforms.shape[1]).all()) else lengths
    if waveforms.ndim != 2 or 0 in waveforms.shape or waveforms.shape[1] < RECEPTIVE_FIELD:
        raise ValueError(
            f"waveforms must be (B, T) with T at least {RECEPTIVE_FIELD} (got "
            f"{tuple(waveforms.shape)})"
        )
    return None


def _check(waveforms: Tensor, lengths: Tensor) -> None:
    if waveforms.ndim != 2 or lengths.shape != waveforms.shape[:1] or len(lengths) == 0:
        raise ValueError(
            f"waveforms must be (B, T) and lengths (B,) (got {tuple(waveforms.shape)} and "
            f"{tuple(lengths.shape)})"
        )
    if int(lengths.max()) > waveforms.shape[1]:
        raise ValueError(f"a length of {int(lengths.max())} exceeds {waveforms.shape[1]} samples")
    if int(lengths.min()) < RECEPTIVE_FIELD:
        row = int(lengths.argmin())
        raise ValueError(
            f"row {row} has {int(lengths[row])} samples; one frame needs {RECEPTIVE_FIELD} (25 ms)"
        )
