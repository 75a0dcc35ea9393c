# SPDX-License-Identifier: Apache-2.0
"""Cutting digital silence out of a recording, as SUPERB's verification data had it done by sox.

Settings of s3prl ec8064b5, downstream/sv_voxceleb1/dataset.py: stretches of 0.1 s or more below
0.1 % of full scale. sox's own windows are approximated by ours of 20 ms.
"""

import torch
from torch import Tensor

from wavlm_lightning.lengths import SAMPLE_RATE

THRESHOLD = 1e-3  # of full scale
SHORTEST = 5  # windows, 0.1 s
WINDOW = SAMPLE_RATE // 50


def remove_silence(waveform: Tensor) -> Tensor:
    """(T,) -> the same without silent stretches; whole if all of it is silent."""
    count = len(waveform) // WINDOW
    if count == 0:
        return waveform
    windows = waveform[: count * WINDOW].reshape(count, WINDOW)
    silent = windows.square().mean(1).sqrt() < THRESHOLD
    edges = torch.diff(silent.int(), prepend=torch.zeros(1), append=torch.zeros(1))
    first, last = (edges > 0).nonzero()[:, 0], (edges < 0).nonzero()[:, 0]
    keep = torch.ones(len(waveform), dtype=torch.bool)
    for begin, end in zip(first.tolist(), last.tolist(), strict=True):
        if end - begin >= SHORTEST:
            keep[begin * WINDOW : end * WINDOW] = False
    return waveform[keep] if bool(keep[: count * WINDOW].any()) else waveform
