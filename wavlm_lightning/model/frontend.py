# SPDX-License-Identifier: Apache-2.0
"""The convolutional front end: raw samples in, one feature vector every 20 ms out.

Seven strided convolutions without bias, GELU after each (wav2vec 2.0, Baevski et al. 2020);
normalised over time once for Base, over channels everywhere for Large (WavLM, Chen et al. 2021).

Differs from the released code: the group norm's statistics leave padding out, unless
`masked_group_norm` is off. Released Base models see zeros as part of the utterance, and an
utterance's features then depend on its batch mates.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.lengths import conv_lengths, padding_mask
from wavlm_lightning.model.config import WavLMConfig


class ScaleGradient(torch.autograd.Function):
    """Identity forward; multiplies the gradient on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.scale, None


class TimeNorm(nn.GroupNorm):
    """One group a channel: each channel normalised over time, in float32."""

    def __init__(self, dim: int):
        super().__init__(dim, dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, C, T) with valid lengths (B,), None for no padding -> (B, C, T) in x's dtype."""
        if lengths is None:
            y = F.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps)
            return y.to(x.dtype)
        valid = ~padding_mask(lengths, x.shape[-1])[:, None]  # (B, 1, T)
        count = lengths[:, None, None]
        y = x.float()
        centred = (y - (y * valid).sum(-1, keepdim=True) / count) * valid
        variance = centred.square().sum(-1, keepdim=True) / count
        y = centred * torch.rsqrt(variance + self.eps)
        return (y * self.weight[:, None] + self.bias[:, None]).to(x.dtype)


class ChannelNorm(nn.LayerNorm):
    """Each frame normalised over channels, in float32."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, C, T) -> (B, C, T); a frame knows nothing of the others, so lengths do not matter."""
        y = x.transpose(1, 2).float()  # (B, T, C)
        y = F.layer_norm(y, self.normalized_shape, self.weight, self.bias, self.eps)
        return y.to(x.dtype).transpose(1, 2)


class ConvLayer(nn.Module):
    """Convolution, norm where there is one, GELU."""

    def __init__(self, dims: tuple[int, int], kernel: int, *, stride: int, norm: nn.Module | None):
        super().__init__()
        self.conv = nn.Conv1d(*dims, kernel, stride=stride, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm = norm

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, C_in, T) and output lengths (B,) or None -> (B, C_out, T')."""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x, lengths)
        return F.gelu(x)


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
                norm = ChannelNorm(dim)
            elif i == 0:
                norm = TimeNorm(dim)
            self.layers.append(ConvLayer((dim_in, dim), kernel, stride=stride, norm=norm))
            dim_in = dim

    def forward(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) with valid samples (B,), None for no padding -> (B, F, C)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.grad_scale > 0):
            x = waveforms[:, None]  # (B, 1, T)
            for layer in self.layers:
                if lengths is not None and self.masked:
                    conv: nn.Conv1d = layer.conv  # type: ignore[assignment]
                    lengths = conv_lengths(lengths, conv.kernel_size, conv.stride)
                x = layer(x, lengths if self.masked else None)
        if self.training and 0 < self.grad_scale != 1:
            x = ScaleGradient.apply(x, self.grad_scale)
        return x.transpose(1, 2)  # (B, F, C)
