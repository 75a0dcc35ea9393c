# SPDX-License-Identifier: Apache-2.0
"""SpecAugment on features: time warp, masks over dimensions, masks over time.

SpecAugment (Park et al. 2019), order and settings as SUPERB has them for ASR (s3prl ec8064b5,
downstream/specaug.py).

Differs from it: a time mask lies within its utterance, not within the padded batch, so that batch
mates do not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from downstream.features import Frames
from wavlm_lightning.fields import Checked, whole


@dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig(Checked):
    """How much is hidden.

    Args:
        warp_window: frames by which a moment may move; 0 for no warp.
        num_feature_masks: stretches of dimensions, an utterance.
        feature_width: each narrower than this.
        num_time_masks: stretches of frames, an utterance.
        time_width: each shorter than this.
    """

    warp_window: int = whole(0, 10**6)
    num_feature_masks: int = whole(0, 1000)
    feature_width: int = whole(0, 10**6)
    num_time_masks: int = whole(0, 1000)
    time_width: int = whole(0, 10**6)


def spec_augment(
    frames: Frames, config: SpecAugmentConfig, rngs: Sequence[np.random.Generator]
) -> Frames:
    """Frames (B, F, D) with parts hidden; one generator a row."""
    rows, (size, dim) = [], frames.x.shape[1:]
    # Drawn for all rows, and moved to the device at once.
    keep_features = np.ones((len(rngs), dim), np.float32)
    keep_times = np.ones((len(rngs), size), np.float32)
    for row, (length, rng) in enumerate(zip(frames.lengths.tolist(), rngs, strict=True)):
        x = frames.x[row, :length]
        if config.warp_window and length > 2 * config.warp_window:
            x = _warp(x, config.warp_window, rng)
        for _ in range(config.num_feature_masks):
            keep_features[row, _stretch(dim, config.feature_width, rng)] = 0
        for _ in range(config.num_time_masks):
            keep_times[row, _stretch(length, config.time_width, rng)] = 0
        rows.append(F.pad(x, (0, 0, 0, size - length)))
    features, times = (
        torch.from_numpy(keep).to(frames.x.device, non_blocking=True)
        for keep in (keep_features, keep_times)
    )
    return Frames(torch.stack(rows) * features[:, None] * times[..., None], frames.lengths)


def _stretch(size: int, width: int, rng: np.random.Generator) -> slice:
    """At most `width` - 1 places out of `size`."""
    chosen = min(int(rng.integers(width)), size) if width else 0
    start = int(rng.integers(size - chosen + 1))
    return slice(start, start + chosen)


def _warp(x: Tensor, window: int, rng: np.random.Generator) -> Tensor:
    """(F, D) -> (F, D): what is at one moment moves by up to `window` frames."""
    length = len(x)
    centre = int(rng.integers(window, length - window))
    moved = int(rng.integers(centre - window, centre + window)) + 1
    parts = [(x[:centre], moved), (x[centre:], length - moved)]
    resized = [
        F.interpolate(
            part[None, None], size=(size, x.shape[1]), mode="bicubic", align_corners=False
        )[0, 0]
        for part, size in parts
        if size > 0 and len(part) > 0
    ]
    return torch.cat(resized)
