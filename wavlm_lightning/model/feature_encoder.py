# SPDX-License-Identifier: Apache-2.0
"""The feature encoder: raw samples in, one feature vector every 20 ms out.

Seven strided convolutions without bias, GELU after each (wav2vec 2.0, Baevski et al. 2020);
normalised over time once for Base, over channels everywhere for Large (WavLM, Chen et al. 2021).

Differs from the released code: the group norm's statistics leave padding out, unless
`masked_group_norm` is off. Released Base models see zeros as part of the utterance, and an
utterance's features then depend on its batch mates.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.lengths import conv_lengths, padding_mask
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.kernels import use_kernels
from wavlm_lightning.model.kernels.feature_encoder import feature_encoder
from wavlm_lightning.runtime import autocast_dtype

SHORT = 40 * 16_000  # samples of a batch


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
    """A strided convolution, its norm (over time, over channels, or none), and a GELU."""

    def __init__(self, dims: tuple[int, int], kernel: int, *, stride: int, norm: nn.Module | None):
        super().__init__()
        self.conv = nn.Conv1d(*dims, kernel, stride=stride, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm = norm

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """(B, C, T) and padding (B, T') of the output, None for no padding -> (B, C', T')."""
        x = self.conv(x)
        if isinstance(self.norm, nn.LayerNorm):
            y = self.norm(x.transpose(1, 2)).transpose(1, 2)
        elif isinstance(self.norm, nn.GroupNorm):
            y = self.norm(x) if padding is None else norm_over_time(x, padding, self.norm)
        else:
            y = x
        # Norms give float32 under autocast; activations are kept in what the convolution gave.
        return F.gelu(y.to(x.dtype))


def norm_over_time(x: Tensor, padding: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Group norm, one group a channel, of (B, C, T) over frames that are not padding (B, T).

    Args:
        x: (B, C, T) activations.
        padding: (B, T) bool, True on padding.
        norm: Gives gain, bias and epsilon.
    """
    x, valid = x.float(), ~padding[:, None]
    count = valid.sum(-1, keepdim=True)
    x = x - (x * valid).sum(-1, keepdim=True) / count
    variance = (x * valid).square().sum(-1, keepdim=True) / count
    x = x * torch.rsqrt(variance + norm.eps)
    return x * norm.weight[:, None] + norm.bias[:, None]


class ConvLayers(nn.ModuleList):
    """All convolutions, one after the other, in plain operations."""

    def forward(self, waveforms: Tensor, padding: Tensor | None) -> Tensor:
        """(B, T) and padding (B, T') of the first layer, None for no padding -> (B, F, C)."""
        x = waveforms[:, None]
        for layer in self:
            x = layer(x, padding)
            padding = None  # the first norm alone goes over time
        return x.transpose(1, 2)


class FeatureEncoder(nn.Module):
    """Waveforms (B, T) -> features (B, F, C), 320 samples a frame."""

    def __init__(self, config: WavLMConfig):
        super().__init__()
        self.grad_scale = config.feature_encoder_grad_scale
        self.masked = config.masked_group_norm
        self.layers = ConvLayers()
        self.compiled = False  # layers are
        dim_in = 1
        for i, (dim, kernel, stride) in enumerate(config.conv_layers):
            norm: nn.Module | None = None
            if config.feature_encoder_norm == "layer":
                norm = nn.LayerNorm(dim)
            elif i == 0:
                norm = nn.GroupNorm(dim, dim)  # one group a channel
            self.layers.append(ConvLayer((dim_in, dim), kernel, stride=stride, norm=norm))
            dim_in = dim

    def forward(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) with valid samples (B,), None for no padding -> (B, F, C)."""
        first = cast(ConvLayer, self.layers[0]).conv
        frames = None  # valid ones of the first layer
        if lengths is not None and self.masked:
            frames = conv_lengths(lengths, first.kernel_size, first.stride)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.grad_scale > 0):
            if self.takes_kernel(waveforms):
                x = self._kernel(waveforms, frames)
            else:
                size = conv_lengths(waveforms.shape[1], first.kernel_size, first.stride)
                x = self.layers(waveforms, _padding(frames, size, waveforms.device))
        if self.training and 0 < self.grad_scale != 1:
            x = ScaleGradient.apply(x, self.grad_scale)
        return x

    def set_trainable(self, trainable: bool) -> None:
        """Train the convolutions with their whole gradient, or leave them as they are."""
        self.requires_grad_(trainable)
        self.grad_scale = 1.0 if trainable else 0.0

    def takes_kernel(self, waveforms: Tensor) -> bool:
        """Whether the kernel of a CPU runs for waveforms (B, T).

        In float32 convolutions were 1.15 times as fast as its products on one kind of processor
        (AMD Zen 4); in training, and for much audio, they take too much memory.
        """
        if not use_kernels(waveforms) or self.compiled:
            return False
        exact = autocast_dtype(waveforms) == torch.float32
        return torch.is_grad_enabled() or not exact or waveforms.numel() > SHORT

    def _kernel(self, waveforms: Tensor, frames: Tensor | None) -> Tensor:
        layers = cast(list[ConvLayer], list(self.layers))
        dtype = layers[0].conv.weight.dtype
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            return feature_encoder(layers, waveforms, frames, dtype)


def _padding(frames: Tensor | None, size: int, device: torch.device) -> Tensor | None:
    """Padding (B, size) on the device for valid frames (B,) on the host."""
    if frames is None:
        return None
    return padding_mask(frames, size, device)
