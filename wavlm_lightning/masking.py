# SPDX-License-Identifier: Apache-2.0
"""Which frames are masked: spans of ten frames at random starts.

wav2vec 2.0 (Baevski et al. 2020, section 4.2) as HuBERT and WavLM use it: the rule of
fairseq 3d262bb, data/data_utils.py `compute_mask_indices`, static span length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_lightning.fields import Checked, number, whole


@dataclass(frozen=True, kw_only=True)
class SpanMask(Checked):
    """Draws masks; at 0.8 and 10 a bit over half of the frames of a long utterance are masked.

    Args:
        prob: expected share of frames in spans if spans did not overlap.
        length: frames of a span.
        min_spans: spans that every utterance gets.
        equalize: unmask random frames until all rows of a batch have equally many, as the
            released code does. Not needed for a loss over a flat list of masked frames.
    """

    prob: float = number(0, 1)
    length: int = whole(1, 10**6)
    min_spans: int = whole(0, 10**6)
    equalize: bool = False

    def __call__(self, lengths: Sequence[int], generators: Sequence[np.random.Generator]) -> Tensor:
        """(B, F) bool, True where masked, for frame counts and one generator a row."""
        rows = [self.row(n, g) for n, g in zip(lengths, generators, strict=True)]
        if self.equalize:
            fewest = min(int(r.sum()) for r in rows)
            for row, generator in zip(rows, generators, strict=True):
                places = np.flatnonzero(row)
                row[generator.permutation(places)[: len(places) - fewest]] = False
        masked = torch.zeros(len(rows), max(lengths), dtype=torch.bool)
        for i, row in enumerate(rows):
            masked[i, : len(row)] = torch.from_numpy(row)
        return masked

    def row(self, num_frames: int, generator: np.random.Generator) -> NDArray[np.bool_]:
        """The mask (F,) of one utterance.

        Raises:
            ValueError: if the utterance is too short to leave a frame visible.
        """
        if num_frames <= self.length + 1:
            raise ValueError(
                f"an utterance of {num_frames} frames cannot have spans of {self.length} masked "
                "and still show something; raise data.min_samples"
            )
        # A random number before rounding down: the expected number of spans is exact.
        spans = int(self.prob * num_frames / self.length + generator.random())
        # The last start is num_frames - length - 1, so the last frame is never masked.
        spans = min(max(spans, self.min_spans), num_frames - self.length)
        starts = generator.choice(num_frames - self.length, spans, replace=False)
        row = np.zeros(num_frames, dtype=np.bool_)
        row[(starts[:, None] + np.arange(self.length)).ravel()] = True
        return row
