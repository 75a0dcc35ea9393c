# SPDX-License-Identifier: Apache-2.0
"""What an upstream gives and a head takes: layers of features, or one weighted sum of them."""

from typing import NamedTuple, Protocol

from torch import Tensor

from wavlm_lightning.lengths import HOP, conv_lengths


class Features(NamedTuple):
    """What an upstream makes of a batch."""

    layers: tuple[Tensor, ...]  # each (B, F, D); layer 0 enters the first block
    lengths: Tensor  # (B,) int64 valid frames, on the host
    stacked: Tensor | None = None  # (L, B, F, D) float32: the same layers, where they lie together


class Frames(NamedTuple):
    """One feature vector a frame, the input of every head."""

    x: Tensor  # (B, F, D) float32, zero on padding
    lengths: Tensor  # (B,) int64 valid frames, on the host


class Framing(Protocol):
    """How an upstream divides time: what a task needs to know of it."""

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance of so many samples."""


class ConvolutionFraming:
    """That of the convolutions of wav2vec 2.0, HuBERT and WavLM."""

    stride = HOP

    def num_frames(self, num_samples: int) -> int:
        """Frames as the convolutions count them."""
        return conv_lengths(num_samples)


class Upstream(Framing, Protocol):
    """A pre-trained model, or filter banks: waveforms in, layers of frames out."""

    dim: int  # D
    num_layers: int  # of the layers that it returns

    def __call__(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) float32 at 16 kHz with lengths (B,) in samples."""
        ...
