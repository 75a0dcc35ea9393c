# SPDX-License-Identifier: Apache-2.0
"""The encoder as a program of torch.export: any batch, any length, no padding."""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from wavlm_lightning.lengths import HOP, RECEPTIVE_FIELD, SAMPLE_RATE
from wavlm_lightning.model.wavlm import WavLM

MAX_SECONDS = 600  # of a waveform, for the program's own check


class Layers(nn.Module):
    """Waveforms (B, T) of one length -> num_layers + 1 tensors (B, F, D), as `WavLM` gives them."""

    def __init__(self, model: WavLM):
        super().__init__()
        # Chunks are counted on the host; the compiler is to see one graph for every length.
        self.model = WavLM(dataclasses.replace(model.config, attention="eager"))
        self.model.load_state_dict(model.state_dict())
        self.eval().requires_grad_(False)

    def forward(self, waveforms: Tensor) -> tuple[Tensor, ...]:
        """(B, T) float32 at 16 kHz, as it comes from a file -> layers (B, F, D)."""
        layers: tuple[Tensor, ...] = self.model(waveforms).layers
        return layers


def exported(model: WavLM) -> ExportedProgram:
    """A program of its own: `torch.export.load(FILE).module()(waveforms)` needs nothing of ours."""
    example = torch.zeros(2, SAMPLE_RATE)
    batch = Dim("batch", min=1, max=1024)
    samples = Dim("samples", min=RECEPTIVE_FIELD + HOP, max=MAX_SECONDS * SAMPLE_RATE)
    with torch.no_grad():
        return torch.export.export(
            Layers(model),
            (example,),
            dynamic_shapes=({0: batch, 1: samples},),
            # Frames are rounded quotients of samples: what torch cannot prove of them at once, the
            # program looks at when it is run.
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def save_exported(model: WavLM, path: Path) -> None:
    """Write that program."""
    torch.export.save(exported(model), path)
