# SPDX-License-Identifier: Apache-2.0
"""Where a frame stands: the convolutional position embedding, and buckets of relative distance.

Buckets are T5's (Raffel et al. 2020) with WavLM's numbers: 320 of them, exact up to 79 frames, then
logarithmic up to 800 (Chen et al. 2021, section 3.1; values from the released checkpoints).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.model.kernels import use_kernels
from wavlm_lightning.model.kernels.grouped_convolution import grouped_convolution
from wavlm_lightning.runtime import autocast_dtype

# With AMX, bfloat16 convolutions of torch 2.11 return garbage for long kernels in groups of fewer
# channels than this: such a one, the mini model's, is computed in float32.
MIN_BF16_CHANNELS = 16
# Where a CPU computes the convolution as matrix products too, as GPUs do: in groups of so few
# channels, and in bfloat16 for so many frames (Zen 4, a step: Base 194 -> 152 ms, mini 61 -> 22).
FEW_CHANNELS, MANY_FRAMES = 16, 400


def relative_buckets(distances: Tensor, num_buckets: int, *, max_distance: int) -> Tensor:
    """Buckets (...) of distances j - i (...), key minus query in frames; int64.

    Half of the buckets are for keys after the query, half for keys before it or at it; half of
    each holds one distance a bucket.

    Args:
        distances: (...) int64, in frames.
        num_buckets: Of both directions together.
        max_distance: From here on all distances share the last bucket.

    >>> relative_buckets(torch.tensor([0, -1, -80, 1, 500]), 320, max_distance=800)
    tensor([  0,   1,  80, 161, 303])
    """
    half = num_buckets // 2
    exact = half // 2
    n = distances.abs()
    # float32 with clamp and truncation in this order: the golden values depend on it.
    ratio = torch.log(n.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    coarse = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(n < exact, n, coarse) + torch.where(distances > 0, half, 0)


def _as_products(x: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    if x.device.type == "cuda":
        return True
    # Without gradients batch mates have no say: they would change how an utterance is rounded.
    frames = x.shape[1] * (len(x) if torch.is_grad_enabled() else 1)
    many = dtype == torch.bfloat16 and frames >= MANY_FRAMES
    return use_kernels(x) and (many or weight.shape[1] < FEW_CHANNELS)


class ConvPosition(nn.Module):
    """Position embedding from neighbouring frames: one wide grouped convolution, then GELU.

    The weight is normalised once for each tap of the kernel (`weight_g` holds the gains).
    """

    def __init__(self, dim: int, kernel: int, *, groups: int):
        super().__init__()
        self.groups = groups
        self.weight_v = nn.Parameter(torch.empty(dim, dim // groups, kernel))
        nn.init.normal_(self.weight_v, std=math.sqrt(4 / (kernel * dim)))
        norms = self.weight_v.detach().norm(dim=(0, 1), keepdim=True)
        self.weight_g = nn.Parameter(norms)  # (1, 1, kernel)
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, D), zero on padding -> (B, F, D), to be added to x."""
        # The operation behind torch.nn.utils' weight_norm: other orders round differently.
        weight = torch._weight_norm(self.weight_v, self.weight_g, 2)
        dtype = autocast_dtype(x)
        if _as_products(x, weight, dtype):
            before = weight.shape[2] // 2
            y = grouped_convolution(x.to(dtype), weight, groups=self.groups, before=before)
            return F.gelu(y + self.bias.to(dtype)).to(x.dtype)
        return F.gelu(self._convolve(x.transpose(1, 2), weight)).transpose(1, 2)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """(B, D, F) and taps (D, D / groups, kernel) -> (B, D, F) in x's dtype."""
        kernel, padding = weight.shape[2], weight.shape[2] // 2
        if x.device.type == "cpu" and weight.shape[1] < MIN_BF16_CHANNELS:
            exact = [t.float() for t in (x, weight, self.bias)]
            with torch.autocast("cpu", enabled=False):
                y = F.conv1d(*exact, padding=padding, groups=self.groups)  # type: ignore[call-overload]
        else:
            y = F.conv1d(x, weight, self.bias, padding=padding, groups=self.groups)
        y = y.to(x.dtype)
        return y[..., :-1] if kernel % 2 == 0 else y  # an even kernel gives one frame too many
