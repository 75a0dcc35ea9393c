# SPDX-License-Identifier: Apache-2.0
"""The learned weighted sum of an upstream's layers.

One scalar a layer, zero at first, softmax over them: SUPERB (Yang et al. 2021, section 3), details
as in s3prl ec8064b5, upstream/interfaces.py, class Featurizer.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.downstream.features.frames import Features, Frames
from wavlm_lightning.fields import Checked, whole
from wavlm_lightning.lengths import padding_mask


@dataclass(frozen=True, kw_only=True)
class FeaturizerConfig(Checked):
    """How layers become one.

    Args:
        layer: use this one alone, 0 is the input of the first block, "last" the last one; None for
            the weighted sum.
        normalize: normalise each frame of each layer over its dimensions before the sum.
        lengths: valid frames as the convolutions count them, or s3prl's rounded samples / stride.
    """

    layer: int | Literal["last"] | None = whole(0, 1000, default=None)
    normalize: bool = False
    lengths: Literal["exact", "s3prl"] = "exact"


class WeightedSum(torch.autograd.Function):
    """Sum of weights[i] * layers[i] without a stacked copy: only the layers themselves are kept."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *layers: Tensor) -> Tensor:
        ctx.save_for_backward(weights, *layers)
        out = torch.zeros_like(layers[0], dtype=weights.dtype)
        if weights.device.type == "cpu":  # numbers are there, and convert a layer as it is added
            for value, layer in zip(weights.tolist(), layers, strict=True):
                out.add_(layer, alpha=value)
        else:
            for weight, layer in zip(weights, layers, strict=True):
                out.addcmul_(layer.to(out.dtype), weight)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weights, *layers = ctx.saved_tensors
        grad = grads[0]
        of_weights = torch.stack(
            [torch.dot(grad.flatten(), x.flatten().to(grad.dtype)) for x in layers]
        )
        of_layers = [
            (grad * w).to(x.dtype) if wanted else None
            for w, x, wanted in zip(weights, layers, ctx.needs_input_grad[1:], strict=True)
        ]
        return of_weights, *of_layers


class Featurizer(nn.Module):
    """`Features` -> `Frames`: softmax-weighted sum of the layers, or one chosen layer."""

    def __init__(self, config: FeaturizerConfig, *, num_layers: int, stride: int):
        super().__init__()
        if isinstance(config.layer, int) and config.layer >= num_layers:
            raise ValueError(
                f"featurizer.layer={config.layer}: the upstream has layers 0 to {num_layers - 1}"
            )
        self.config, self.stride = config, stride
        summed = num_layers > 1 and config.layer is None
        self.logits = nn.Parameter(torch.zeros(num_layers)) if summed else None

    def weights(self) -> Tensor | None:
        """(L,) that sum to one; None where there is one layer."""
        return None if self.logits is None else self.logits.detach().softmax(0)

    def forward(self, features: Features, num_samples: Tensor) -> Frames:
        """Layers of (B, F, D) and samples (B,) of the waveforms -> frames (B, F, D)."""
        if self.config.layer is not None:
            layer = -1 if self.config.layer == "last" else self.config.layer
            features = Features((features.layers[layer],), features.lengths)
        layers, lengths, stacked = prepared(features, num_samples, self.config, stride=self.stride)
        if self.logits is None:
            x = layers[0].float()
        elif stacked is not None:
            x = torch.tensordot(self.logits.softmax(0), stacked, 1)
        else:
            x = WeightedSum.apply(self.logits.softmax(0), *layers)
        if int(lengths.min()) < x.shape[1]:
            x = x.masked_fill(padding_mask(lengths, x.shape[1], x.device)[..., None], 0)
        return Frames(x, lengths)


def prepared(
    features: Features, num_samples: Tensor, config: FeaturizerConfig, *, stride: int
) -> Features:
    """Layers (B, F, D) cut to the frames that count, normalised if `normalize` is set.

    Args:
        features: Layers of (B, F, D) and their frames (B,).
        num_samples: (B,) samples of the utterances.
        config: How frames are counted, and whether layers are normalised.
        stride: Samples from one frame to the next.
    """
    layers, lengths, stacked = features
    if config.lengths == "s3prl":
        rounded = (num_samples / stride).round().long()
        lengths = rounded.clamp(min=1, max=layers[0].shape[1])
    longest = int(lengths.max())
    if longest < layers[0].shape[1]:
        layers, stacked = tuple(x[:, :longest] for x in layers), None
    if config.normalize:
        layers, stacked = tuple(F.layer_norm(x.float(), x.shape[-1:]) for x in layers), None
    return Features(layers, lengths, stacked)
