# SPDX-License-Identifier: Apache-2.0
"""Whose hidden layers are clustered: a WavLM of any layout, or an encoder of transformers."""

from pathlib import Path

import torch
from torch import Tensor

from wavlm_lightning.model.checkpoint import load_wavlm
from wavlm_lightning.model.transformers_encoder import (
    WAVEFORM_TYPES,
    Loaded,
    TransformersEncoder,
    is_transformers,
    load_transformers,
)
from wavlm_lightning.pretrain.label_features import Teacher, WavLMTeacher


class TransformersTeacher:
    """An encoder of transformers that reads waveforms."""

    def __init__(self, found: Loaded, device: str):
        model = found.model.to(device).eval()
        self.encoder = TransformersEncoder(model, normalize=found.normalize)
        self._sha256 = found.sha256
        self.dim, self.num_layers = self.encoder.dim, self.encoder.num_layers - 1
        self.device = next(model.parameters()).device

    @property
    def sha256(self) -> str:
        """Hash of its file, or of its tensors."""
        return self._sha256

    def prepared(self, waveform: Tensor) -> Tensor:
        """(T,) -> (T,), normalised as a whole where the model was trained so."""
        return self.encoder.normalized(waveform[None].to(self.device), None)[0]

    def layer(self, waveforms: Tensor, lengths: Tensor, number: int) -> Tensor:
        """(B, T), (B,) -> (B, F, D).

        Args:
            waveforms: (B, T) prepared samples.
            lengths: (B,) samples that are valid.
            number: Layer that is returned; 0 enters the first block.
        """
        layers: tuple[Tensor, ...] = self.encoder(waveforms, lengths)
        return layers[number]


def load_teacher(source: Path) -> Teacher:
    """The teacher at a file or folder, on the GPU if there is one.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: naming the file, if it cannot be read.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if is_transformers(source):
        found = load_transformers(str(source), download=False)
        if found.type not in WAVEFORM_TYPES:
            raise ValueError(
                f"{source} is a {found.type}: a teacher must read waveforms, as "
                f"{', '.join(WAVEFORM_TYPES)} and WavLM do"
            )
        return TransformersTeacher(found, device)
    return WavLMTeacher(load_wavlm(source).to(device))
