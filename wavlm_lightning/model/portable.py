# SPDX-License-Identifier: Apache-2.0
"""The encoder in plain operations, for torch.export: any batch, any length, no padding."""

import copy
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from wavlm_lightning.lengths import RECEPTIVE_FIELD, SAMPLE_RATE
from wavlm_lightning.model.attention import Bias
from wavlm_lightning.model.frontend import ConvLayer
from wavlm_lightning.model.wavlm import WavLM

MAX_SECONDS = 600  # of a waveform, for the program's own check


class PortableWavLM(nn.Module):
    """Waveforms (B, T) of one length -> num_layers + 1 tensors (B, F, D), as `WavLM` gives them."""

    def __init__(self, model: WavLM):
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    def forward(self, waveforms: Tensor) -> tuple[Tensor, ...]:
        """(B, T) float32 at 16 kHz, as it comes from a file."""
        model = self.model
        if model.config.normalize_waveform:
            centred = waveforms - waveforms.mean(-1, keepdim=True)
            variance = centred.square().mean(-1, keepdim=True)
            waveforms = centred * torch.rsqrt(variance + 1e-5)
        x = waveforms[:, None]  # (B, C, T)
        for layer in cast(list[ConvLayer], list(model.frontend.layers)):
            x = F.conv1d(x, layer.conv.weight, stride=layer.conv.stride)
            if isinstance(layer.norm, nn.LayerNorm):
                x = layer.norm(x.transpose(1, 2)).transpose(1, 2)
            elif layer.norm is not None:
                x = layer.norm(x)
            x = F.gelu(x)
        return self._encode(model.projection(model.projection_norm(x.transpose(1, 2))))

    def _encode(self, x: Tensor) -> tuple[Tensor, ...]:
        encoder = self.model.encoder
        x = x + encoder.position(x)
        if not encoder.config.norm_first:
            x = encoder.norm(x)
        frames = torch.arange(x.shape[1], device=x.device)
        distances = frames[None] - frames[:, None] + x.shape[1] - 1
        table = encoder.table(x.shape[1])
        bias = Bias(None if table is None else table[:, distances], None)  # (H, F, F)
        layers = [x]
        for block in encoder.layers:
            layers.append(block(layers[-1], bias, "eager"))
        if encoder.config.norm_first and encoder.config.last_layer_normed:
            layers[-1] = encoder.norm(layers[-1])
        return tuple(layers)


def exported(model: WavLM) -> ExportedProgram:
    """A program of its own: `torch.export.load(FILE).module()(waveforms)` needs nothing of ours."""
    example = torch.zeros(2, SAMPLE_RATE)
    batch = Dim("batch", min=1, max=1024)
    samples = Dim("samples", min=RECEPTIVE_FIELD + 320, max=MAX_SECONDS * SAMPLE_RATE)
    with torch.no_grad():
        return torch.export.export(
            PortableWavLM(model),
            (example,),
            dynamic_shapes=({0: batch, 1: samples},),
            # Frames are rounded quotients of samples: what torch cannot prove of them at once, the
            # program looks at when it is run.
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def save_exported(model: WavLM, path: Path) -> None:
    """Write that program."""
    torch.export.save(exported(model), path)
