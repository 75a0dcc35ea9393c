# SPDX-License-Identifier: Apache-2.0
"""Means over time in place of frames, for heads that can tell no difference.

SUPERB's utterance-level head is affine before and after its mean over time, and the weighted sum of
layers is linear: with the mean of each layer for input, logits and all gradients stay the same.
"""

from dataclasses import replace

import torch
from torch import Tensor

from wavlm_lightning.downstream.features.featurizer import FeaturizerConfig, prepared
from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.downstream.features.frozen import Frozen


class MeansOverTime:
    """An upstream whose utterances have one frame each.

    Args:
        upstream: gives the frames.
        featurizer: says whether each is normalised first; its lengths are exact, because frames
            that are counted by s3prl's rule depend on the batch.
    """

    def __init__(self, upstream: Frozen, featurizer: FeaturizerConfig):
        self.upstream, self.featurizer = upstream, featurizer

    def __call__(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> layers of (B, 1, D) float32, lengths of 1."""
        found: Features = self.upstream(waveforms, lengths)
        features = prepared(found, lengths, self.featurizer, stride=self.upstream.stride)
        means = tuple(_mean(x, features.lengths) for x in features.layers)
        return Features(means, torch.ones_like(features.lengths))

    @property
    def left_to_do(self) -> FeaturizerConfig:
        """How layers become one after this."""
        return replace(self.featurizer, normalize=False)


def _mean(layer: Tensor, lengths: Tensor) -> Tensor:
    """(B, F, D) -> (B, 1, D) over valid frames."""
    rows = [x[:n].float().mean(0) for x, n in zip(layer, lengths.tolist(), strict=True)]
    return torch.stack(rows)[:, None]
