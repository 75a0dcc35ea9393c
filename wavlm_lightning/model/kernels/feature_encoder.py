# SPDX-License-Identifier: Apache-2.0
"""The feature encoder on a CPU: matrix products on channels-last activations.

The first convolution and its norm over time are one affine map of the ten samples under the kernel:
mean and variance of its output follow from those of the samples, and it is computed together with
the second.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from wavlm_lightning.lengths import padding_mask
from wavlm_lightning.model.kernels.convolution import ActivatedConv, FirstTwo, Norm, activated


class Layer(Protocol):
    """A convolution and its norm: over time (GroupNorm), over channels (LayerNorm), or none."""

    conv: nn.Conv1d
    norm: nn.Module | None


def feature_encoder(
    layers: Sequence[Layer], waveforms: Tensor, frames: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """(B, T), valid frames (B,) of the first layer or None -> (B, F, C) of this dtype.

    Args:
        layers: Convolutions and their norms.
        waveforms: (B, T) samples.
        frames: (B,) frames of the first layer that are not padding; None: all.
        dtype: What activations are kept in.
    """
    conv = layers[0].conv
    windows = waveforms.float().unfold(1, conv.kernel_size[0], conv.stride[0])  # (B, T', k)
    x: Tensor | None = None
    for before, layer in pairwise(layers):
        weight, stride = layer.conv.weight.to(dtype), layer.conv.stride[0]
        gain, bias, eps = _channel_norm(before) or (None, None, 0.0)
        if x is None:
            first = _affine(before, windows, frames)
            x = FirstTwo.apply(windows, *first, weight, gain, bias, eps, stride)
        else:
            x = ActivatedConv.apply(x, weight, gain, bias, eps, stride)
    assert x is not None
    return activated(x, _channel_norm(layers[-1]))


def _channel_norm(layer: Layer) -> Norm | None:
    """What is applied before the GELU, as the next layer reads it."""
    norm = layer.norm
    return (norm.weight, norm.bias, norm.eps) if isinstance(norm, nn.LayerNorm) else None


def _affine(layer: Layer, windows: Tensor, frames: Tensor | None) -> tuple[Tensor, Tensor]:
    """Samples under the kernel (B, T', k), valid frames (B,) -> (B, k, C) and (B, C).

    Windows times the first plus the second are the first layer's outputs, normalised over time.
    """
    weight, norm = layer.conv.weight[:, 0].float().T, layer.norm  # (k, C)
    if not isinstance(norm, nn.GroupNorm):
        matrices = weight.expand(len(windows), -1, -1)
        return matrices, weight.new_zeros(len(windows), weight.shape[1])
    mean, covariance = _moments(windows, frames)
    wide = weight.to(mean.dtype)
    variance = ((covariance @ wide) * wide).sum(1).clamp(min=0)  # (B, C)
    gain = (torch.rsqrt(variance + norm.eps) * norm.weight).float()
    shift = norm.bias.float() - gain * (mean @ wide).float()  # (B, C)
    return weight * gain[:, None], shift


def _moments(windows: Tensor, frames: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean (B, k) and covariance (B, k, k) of windows (B, T', k) over valid frames.

    In float64: a filter may leave little of a large variance.
    """
    x = windows.double()
    if frames is None:
        x = x - (mean := x.mean(1))[:, None]
        return mean, x.transpose(1, 2) @ x / x.shape[1]
    valid = ~padding_mask(frames, x.shape[1])[..., None]
    mean = (x * valid).sum(1) / frames[:, None]
    x = (x - mean[:, None]) * valid
    return mean, x.transpose(1, 2) @ x / frames[:, None, None]
