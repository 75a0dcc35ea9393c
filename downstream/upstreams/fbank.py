# SPDX-License-Identifier: Apache-2.0
"""Filter banks: SUPERB's baseline without a model."""

from pathlib import Path

import torch
from torch import Tensor, nn

from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.lengths import RECEPTIVE_FIELD, SAMPLE_RATE

DELTA_WINDOW = 5  # frames; s3prl ec8064b5, upstream/baseline/fbank.yaml, as are the two below
NUM_MELS = 80
FBANK_STRIDE = 160  # samples, 10 ms


def load(config: UpstreamConfig) -> tuple[Frozen, str]:
    """The filter banks, which have no weights."""
    return Frozen(Fbank(cmvn=config.cmvn), precision="float32"), "none"


def depends_on(config: UpstreamConfig) -> str:
    """The normalization."""
    return f"cmvn {config.cmvn}"


def recognizes(path: Path) -> bool:
    """Nothing: no file holds filter banks."""
    return False


class Fbank(nn.Module):
    """80 log mel energies with first and second differences, 240 dimensions.

    Kaldi's filter banks (25 ms windows every 10 ms), differences over 5 frames, zero mean and unit
    variance of each dimension over the utterance: the baseline of SUPERB (Yang et al. 2021) as in
    s3prl ec8064b5, upstream/baseline. Each row is computed alone, so padding does not matter.

    Args:
        cmvn: Zero mean and unit variance.
    """

    dim, num_layers, stride = 3 * NUM_MELS, 1, FBANK_STRIDE

    def __init__(self, *, cmvn: bool = True):
        super().__init__()
        self.cmvn = cmvn

    def num_frames(self, num_samples: int) -> int:
        """Windows of 25 ms that fit whole."""
        return max(0, (num_samples - RECEPTIVE_FIELD) // FBANK_STRIDE + 1)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> one layer (B, F, 240), lengths (B,)."""
        rows = [self._row(w[: int(n)]) for w, n in zip(waveforms, lengths, strict=True)]
        x, frames = nn.utils.rnn.pad_sequence(rows, batch_first=True), [len(r) for r in rows]
        return Features((x,), torch.tensor(frames))

    def _row(self, waveform: Tensor) -> Tensor:
        from torchaudio.compliance import kaldi
        from torchaudio.functional import compute_deltas

        mels = kaldi.fbank(
            waveform[None],
            num_mel_bins=NUM_MELS,
            frame_length=25.0,
            frame_shift=10.0,
            sample_frequency=SAMPLE_RATE,
        ).T  # (80, F)
        first = compute_deltas(mels, DELTA_WINDOW)
        x = torch.cat([mels, first, compute_deltas(first, DELTA_WINDOW)]).T  # (F, 240)
        if not self.cmvn:
            return x
        return (x - x.mean(0)) / (x.std(0, correction=min(1, len(x) - 1)) + 1e-10)
