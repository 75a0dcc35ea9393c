# SPDX-License-Identifier: Apache-2.0
"""What k-means clusters: MFCC for the first iteration, a hidden layer for the next.

HuBERT (Hsu et al. 2021), section 4.2; settings of fairseq 3d262bb, examples/hubert/simple_kmeans.
"""

from typing import Protocol

import torch
from torch import Tensor

from wavlm_lightning.hashing import content_sha256
from wavlm_lightning.lengths import HOP, RECEPTIVE_FIELD, SAMPLE_RATE
from wavlm_lightning.model.wavlm import WavLM, normalize_waveforms

CHUNK_FRAMES = 5_000  # 100 s: longer files go through the model in parts of this


class LabelFeatures(Protocol):
    """Frames to be clustered."""

    rate: int  # frames a second
    dim: int

    def __call__(self, waveform: Tensor) -> Tensor:
        """(T,) float32 at 16 kHz -> (F, dim) float32."""
        ...


class Mfcc:
    """13 Kaldi cepstra with first and second differences: 39 values, 100 frames a second."""

    rate, dim = 100, 39

    def __call__(self, waveform: Tensor) -> Tensor:
        """(T,) -> (F, 39)."""
        from torchaudio.compliance.kaldi import mfcc
        from torchaudio.functional import compute_deltas

        cepstra = mfcc(waveform[None], use_energy=False, sample_frequency=SAMPLE_RATE).T  # (13, F)
        first = compute_deltas(cepstra)
        return torch.cat([cepstra, first, compute_deltas(first)]).T.contiguous()


class Teacher(Protocol):
    """A model whose blocks give frames every 20 ms."""

    dim: int
    num_layers: int  # blocks

    @property
    def sha256(self) -> str:
        """Hash of its weights."""
        ...

    def prepared(self, waveforms: Tensor) -> Tensor:
        """Waveforms (1, T) of a whole recording as the model wants them, where it runs."""
        ...

    def layer(self, waveforms: Tensor, number: int) -> Tensor:
        """Output (F, D) of a block, counted from 1, for part (1, T) of what is prepared."""
        ...


class WavLMTeacher:
    """A WavLM of ours."""

    def __init__(self, model: WavLM):
        self.model = model.eval()
        self.dim, self.num_layers = model.config.dim, model.config.num_layers

    @property
    def sha256(self) -> str:
        """Hash of the tensors, in whatever file they lie."""
        return content_sha256(dict(self.model.state_dict()))

    def prepared(self, waveforms: Tensor) -> Tensor:
        """(1, T) -> (1, T), normalised as a whole where the size asks for it."""
        batch = waveforms.to(self.model.mask_vector.device)
        return normalize_waveforms(batch, None) if self.model.config.normalize_waveform else batch

    def layer(self, waveforms: Tensor, number: int) -> Tensor:
        """(1, T) -> (F, D)."""
        return self.model.encode(waveforms).layers[number][0]


class Hidden:
    """Output of one block of a teacher: 50 frames a second.

    Differs from fairseq's feature dump, which loses a frame every 100 s: parts overlap by what the
    convolutions need, so that frame f of a file of any length stands at sample 320 f.
    """

    rate = SAMPLE_RATE // HOP

    def __init__(self, teacher: Teacher, layer: int, *, chunk_frames: int = CHUNK_FRAMES):
        """`layer` counts from 1, the output of the first block."""
        if not 1 <= layer <= teacher.num_layers:
            raise ValueError(
                f"labels.layer={layer}: the teacher has layers 1 to {teacher.num_layers}"
            )
        self.teacher, self.layer, self.dim = teacher, layer, teacher.dim
        self.chunk_frames = chunk_frames

    @property
    def sha256(self) -> str:
        """Hash of the teacher's weights."""
        return self.teacher.sha256

    @torch.inference_mode()
    def __call__(self, waveform: Tensor) -> Tensor:
        """(T,) -> (F, D)."""
        batch = self.teacher.prepared(waveform[None])
        step, overlap = self.chunk_frames * HOP, RECEPTIVE_FIELD - HOP
        parts = []
        for start in range(0, max(batch.shape[1] - overlap, 1), step):
            part = batch[:, start : start + step + overlap]
            if part.shape[1] < RECEPTIVE_FIELD:
                break
            parts.append(self.teacher.layer(part, self.layer).float().cpu())
        return torch.cat(parts)
