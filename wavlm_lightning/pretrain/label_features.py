# SPDX-License-Identifier: Apache-2.0
"""What k-means clusters: MFCC for the first iteration, a hidden layer for the next.

HuBERT (Hsu et al. 2021), section 4.2; settings of fairseq 3d262bb, examples/hubert/simple_kmeans.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from wavlm_lightning.hashing import content_sha256
from wavlm_lightning.lengths import (
    HOP,
    RECEPTIVE_FIELD,
    SAMPLE_RATE,
    conv_lengths,
    pad_batch,
    similar_lengths,
)
from wavlm_lightning.model.wavlm import WavLM

CHUNK_FRAMES = 5_000  # 100 s: longer files go through the model in parts of this
BATCH_SAMPLES = 100 * SAMPLE_RATE  # with padding, that go through it together
RATIO = 0.8  # shortest over longest of these


class LabelFeatures(Protocol):
    """Frames to be clustered."""

    rate: int  # frames a second
    dim: int

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Recordings (T,) float32 at 16 kHz -> (F, dim) float32 of each, on any device."""
        ...


class Mfcc:
    """13 Kaldi cepstra with first and second differences: 39 values, 100 frames a second."""

    rate, dim = 100, 39

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """(T,) each -> (F, 39) each."""
        return [self._frames(waveform) for waveform in waveforms]

    def _frames(self, waveform: Tensor) -> Tensor:
        from torchaudio.compliance.kaldi import mfcc
        from torchaudio.functional import compute_deltas

        cepstra = mfcc(waveform[None], use_energy=False, sample_frequency=SAMPLE_RATE).T  # (13, F)
        first = compute_deltas(cepstra)
        return torch.cat([cepstra, first, compute_deltas(first)]).T.contiguous()


class Teacher(Protocol):
    """A model whose blocks give frames every 20 ms."""

    dim: int
    num_layers: int  # blocks
    device: torch.device

    @property
    def sha256(self) -> str:
        """Hash of its weights."""
        ...

    def prepared(self, waveform: Tensor) -> Tensor:
        """A whole recording (T,) as the model reads it, on the model's device."""
        ...

    def layer(self, waveforms: Tensor, lengths: Tensor, number: int) -> Tensor:
        """Output (B, F, D) of a block, counted from 1.

        Args:
            waveforms: (B, T) recordings or parts of them, prepared, zero on padding.
            lengths: (B,) int64 valid samples, on the host.
            number: Of the block.
        """
        ...


class WavLMTeacher:
    """A WavLM of ours."""

    def __init__(self, model: WavLM):
        self.model = model.eval()
        self.dim, self.num_layers = model.config.dim, model.config.num_layers
        self.device = model.mask_embedding.device

    @property
    def sha256(self) -> str:
        """Hash of the tensors, in whatever file they lie."""
        return content_sha256(dict(self.model.state_dict()))

    def prepared(self, waveform: Tensor) -> Tensor:
        """(T,) -> (T,), normalised as a whole where the size asks for it."""
        batch = waveform[None].to(self.device)
        return self.model.normalized(batch, None)[0]

    def layer(self, waveforms: Tensor, lengths: Tensor, number: int) -> Tensor:
        """(B, T), (B,) -> (B, F, D); blocks behind this one do not run.

        Args:
            waveforms: (B, T) prepared samples.
            lengths: (B,) samples that are valid.
            number: Block whose output is returned, from 1.
        """
        return self.model.encode(waveforms, lengths, num_blocks=number).layers[number]


class LayerFeatures:
    """Output of one block of a teacher: 50 frames a second.

    Differs from fairseq's feature dump, which loses a frame every 100 s: parts overlap by what the
    convolutions need, so that frame f of a file of any length stands at sample 320 f.

    Args:
        teacher: The model.
        layer: Number of the block, from 1.
        bfloat16: Whether matrix products are computed in it.
        chunk_frames: Longer recordings go through the model in parts of so many frames.
    """

    rate = SAMPLE_RATE // HOP

    def __init__(
        self,
        teacher: Teacher,
        layer: int,
        *,
        bfloat16: bool = False,
        chunk_frames: int = CHUNK_FRAMES,
    ):
        if not 1 <= layer <= teacher.num_layers:
            raise ValueError(
                f"labels.layer={layer}: the teacher has layers 1 to {teacher.num_layers}"
            )
        self.teacher, self.layer, self.dim = teacher, layer, teacher.dim
        self.bfloat16, self.chunk_frames = bfloat16, chunk_frames

    @property
    def sha256(self) -> str:
        """Hash of the teacher's weights."""
        return self.teacher.sha256

    @torch.inference_mode()
    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """(T,) each -> (F, D) each, on the teacher's device."""
        parts = [list(self._parts(self.teacher.prepared(waveform))) for waveform in waveforms]
        frames = iter(self._frames([part for own in parts for part in own]))
        return [torch.cat([next(frames) for _ in own]) for own in parts]

    def _parts(self, waveform: Tensor) -> Iterator[Tensor]:
        step, overlap = self.chunk_frames * HOP, RECEPTIVE_FIELD - HOP
        for start in range(0, max(len(waveform) - overlap, 1), step):
            part = waveform[start : start + step + overlap]
            if len(part) >= RECEPTIVE_FIELD:
                yield part

    def _frames(self, parts: list[Tensor]) -> list[Tensor]:
        """Parts of recordings (T,) -> (F, D) each; parts of about one length run together."""
        found: dict[int, Tensor] = {}
        sizes = [len(part) for part in parts]
        for rows in similar_lengths(sizes, ratio=RATIO, most=BATCH_SAMPLES):
            batch, lengths = pad_batch([parts[row] for row in rows])
            with torch.autocast(batch.device.type, torch.bfloat16, enabled=self.bfloat16):
                x = self.teacher.layer(batch, lengths, self.layer)
            for i, row in enumerate(rows):
                found[row] = x[i, : conv_lengths(sizes[row])].float()
        return [found[row] for row in range(len(parts))]
