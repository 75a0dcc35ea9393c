# SPDX-License-Identifier: Apache-2.0
"""The convolutional front end: raw samples in, one feature vector every 20 ms out.

Seven strided convolutions without bias, GELU after each (wav2vec 2.0, Baevski et al. 2020);
normalised over time once for Base, over channels everywhere for Large (WavLM, Chen et al. 2021).

Activations are channels-last, (B, T, C), and convolutions are matrix products.

Differs from the released code: the group norm's statistics leave padding out, unless
`masked_group_norm` is off. Released Base models see zeros as part of the utterance, and an
utterance's features then depend on its batch mates.
"""

from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from wavlm_lightning.lengths import conv_lengths, padding_mask
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.convolution import ActivatedConv, FirstTwo, Norm, activated


class ScaleGradient(torch.autograd.Function):
    """Identity forward; multiplies the gradient on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.scale, None


class ConvLayer(nn.Module):
    """Weights of a convolution, and of its norm: over time, over channels, or none."""

    def __init__(self, dims: tuple[int, int], kernel: int, *, stride: int, norm: nn.Module | None):
        super().__init__()
        self.conv = nn.Conv1d(*dims, kernel, stride=stride, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm = norm

    @property
    def channel_norm(self) -> Norm | None:
        """What is applied before the GELU, as the next layer reads it."""
        norm = self.norm
        return (norm.weight, norm.bias, norm.eps) if isinstance(norm, nn.LayerNorm) else None

    def first(self, windows: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Samples under the kernel (B, T', k), valid frames (B,) -> (B, k, C) and (B, C).

        Windows times the first plus the second are the first layer's outputs, normalised over time:
        the convolution is linear, so the mean and variance of its output follow from those of the
        few samples under its kernel.
        """
        weight, norm = self.conv.weight[:, 0].float().T, self.norm  # (k, C)
        if not isinstance(norm, nn.GroupNorm):
            matrices = weight.expand(len(windows), -1, -1)
            return matrices, weight.new_zeros(len(windows), weight.shape[1])
        mean, covariance = _moments(windows, lengths)
        wide = weight.to(mean.dtype)
        variance = ((covariance @ wide) * wide).sum(1).clamp(min=0)  # (B, C)
        gain = (torch.rsqrt(variance + norm.eps) * norm.weight).float()
        shift = norm.bias.float() - gain * (mean @ wide).float()  # (B, C)
        return weight * gain[:, None], shift


def _moments(windows: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean (B, k) and covariance (B, k, k) of windows (B, T', k) over valid frames.

    In float64, where the device has it: a filter may leave little of a large variance.
    """
    x = windows if windows.device.type == "mps" else windows.double()
    if lengths is None:
        x = x - (mean := x.mean(1))[:, None]
        return mean, x.transpose(1, 2) @ x / x.shape[1]
    valid = ~padding_mask(lengths, x.shape[1])[..., None]
    mean = (x * valid).sum(1) / lengths[:, None]
    x = (x - mean[:, None]) * valid
    return mean, x.transpose(1, 2) @ x / lengths[:, None, None]


class FrontEnd(nn.Module):
    """Waveforms (B, T) -> features (B, F, C), 320 samples a frame."""

    def __init__(self, config: WavLMConfig):
        super().__init__()
        self.grad_scale = config.frontend_grad_scale
        self.masked = config.masked_group_norm
        self.layers = nn.ModuleList()
        dim_in = 1
        for i, (dim, kernel, stride) in enumerate(config.conv_layers):
            norm: nn.Module | None = None
            if config.frontend_norm == "layer":
                norm = nn.LayerNorm(dim)
            elif i == 0:
                norm = nn.GroupNorm(dim, dim)  # one group a channel
            self.layers.append(ConvLayer((dim_in, dim), kernel, stride=stride, norm=norm))
            dim_in = dim

    def forward(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) with valid samples (B,), None for no padding -> (B, F, C)."""
        device, layers = waveforms.device.type, cast(list[ConvLayer], list(self.layers))
        dtype = layers[0].conv.weight.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        frames = None
        if lengths is not None and self.masked:
            frames = conv_lengths(lengths, layers[0].conv.kernel_size, layers[0].conv.stride)
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and self.grad_scale > 0),
            torch.autocast(device, enabled=False),
        ):
            x = _run(layers, waveforms, frames, dtype)
        if self.training and 0 < self.grad_scale != 1:
            x = ScaleGradient.apply(x, self.grad_scale)
        return x


def _run(
    layers: list[ConvLayer], waveforms: Tensor, frames: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """(B, T), valid frames (B,) of the first layer -> (B, F, C) of this dtype."""
    conv = layers[0].conv
    windows = waveforms.float().unfold(1, conv.kernel_size[0], conv.stride[0])  # (B, T', k)
    x: Tensor | None = None
    for before, layer in pairwise(layers):
        weight, stride = layer.conv.weight.to(dtype), layer.conv.stride[0]
        gain, bias, eps = before.channel_norm or (None, None, 0.0)
        if x is None:
            first = before.first(windows, frames)
            x = FirstTwo.apply(windows, *first, weight, gain, bias, eps, stride)
        else:
            x = ActivatedConv.apply(x, weight, gain, bias, eps, stride)
    assert x is not None
    return activated(x, layers[-1].channel_norm)
