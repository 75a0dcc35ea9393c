# SPDX-License-Identifier: Apache-2.0
"""Encoders of transformers that read spectrograms: w2v-BERT 2.0 and Whisper.

Each utterance is computed alone, by the library's own feature extractor: batches do not matter.
"""

from typing import Any

import torch
from torch import Tensor, nn

from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.model.transformers_encoder import padded_layers

HOP = 320  # samples from frame to frame: two windows of 10 ms
WINDOW = 400  # samples of a window
WHISPER_SAMPLES = 30 * SAMPLE_RATE  # that Whisper takes at a time, no more and no less


class SpectrogramUpstream(nn.Module):
    """All layers of an encoder that reads what a feature extractor makes of each utterance.

    Args:
        model: The encoder.
        extractor: Of transformers; waveforms in, a dictionary of arrays out.
    """

    stride = HOP

    def __init__(self, model: nn.Module, extractor: Any):
        super().__init__()
        self.model, self.extractor = model, extractor
        config: Any = model.config
        self.dim, self.num_layers = config.hidden_size, config.num_hidden_layers + 1

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> num_layers of (B, F, D), lengths (B,)."""
        rows = [self.row(w[: int(n)]) for w, n in zip(waveforms, lengths, strict=True)]
        return Features(padded_layers(rows), torch.tensor([row[0].shape[1] for row in rows]))

    def row(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """Samples (T,) of one utterance -> layers (1, F, D)."""
        raise NotImplementedError

    def encoded(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """Samples (T,) -> layers (1, F, D) of all that the extractor gives."""
        found = self.extractor(
            waveform.cpu().numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt"
        )
        found = {name: value.to(waveform.device) for name, value in found.items()}
        out = self.model(**found, output_hidden_states=True)
        return (*out.hidden_states[:-1], out.last_hidden_state)


class W2vBert(SpectrogramUpstream):
    """w2v-BERT 2.0: two filter-bank windows a frame."""

    def num_frames(self, num_samples: int) -> int:
        """Pairs of windows that fit whole."""
        return max(0, (num_samples - WINDOW) // (HOP // 2) + 1) // 2

    def row(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """Samples (T,) -> layers (1, F, D), without a last frame that is half padding."""
        frames = self.num_frames(len(waveform))
        return tuple(layer[:, :frames] for layer in self.encoded(waveform))


class WhisperEncoder(SpectrogramUpstream):
    """Whisper's encoder: half a minute at a time, the rest of the last one silent."""

    def num_frames(self, num_samples: int) -> int:
        """Frames that hold some of the samples."""
        return -(-num_samples // HOP)

    def row(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """Samples (T,) -> layers (1, F, D), half a minute after the other."""
        parts = []
        for part in waveform.split(WHISPER_SAMPLES):
            frames = self.num_frames(len(part))
            parts.append(tuple(layer[:, :frames] for layer in self.encoded(part)))
        return tuple(torch.cat(layers, dim=1) for layers in zip(*parts, strict=True))
