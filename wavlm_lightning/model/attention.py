# SPDX-License-Identifier: Apache-2.0
"""Self-attention with the gated relative position bias.

Every query row scales one shared table of distance biases by a gate that it computes from its own
input (Chen et al. 2021, section 3.1). Differs from the paper, as the released weights do: the gate
reads the input of the attention module, not the projected query.

Back-ends agree; `eager` is the reference.

    back-end   memory            where
    eager      square            everywhere; the reference
    sdpa       square            everywhere; the fastest on a GPU, on a CPU for float32 inference
    by_head    square            everywhere; the fastest on a CPU for all else
    chunked    linear            everywhere; for long audio, and where memory is short
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.model.config import Attention, WavLMConfig
from wavlm_lightning.model.kernels.by_head import MOST_BYTES, AttentionByHead
from wavlm_lightning.model.kernels.chunked import ChunkedAttention, scaled_scores
from wavlm_lightning.model.kernels.dropout import draw_seed
from wavlm_lightning.model.kernels.linear import linear
from wavlm_lightning.runtime import autocast_dtype

# Frames above which `auto` goes in chunks: there, scores of all frames with all take gigabytes. On
# a GPU chunks are slow (a loop on the host), so only where the scores would fill it.
LONG_ON_CPU = 1024
LONG = 8192


class Bias(NamedTuple):
    """Position bias shared by all layers of one forward pass, and which keys are padding."""

    table: Tensor | None  # (H, F, F) or, for BY_DISTANCE, (H, 2F-1) by distance; None: no bias
    padding: Tensor | None  # (B, F) bool, True on padding; None: no padding
    lengths: tuple[int, ...] | None = None  # valid frames of each row, for BY_DISTANCE; None: all


def dense_table(table: Tensor) -> Tensor:
    """Biases by distance (H, 2F-1) -> by query and key (H, F, F).

    Entry (i, j) is the bias of the distance j - i, which the table holds at j - i + F - 1. One copy
    of the table, padded by one, after the other: where rows are one element shorter than copies,
    each row starts one distance earlier. No index, so the gradient is a plain sum in a fixed order.

    >>> dense_table(torch.tensor([[-1.0, 0.0, 1.0]]))
    tensor([[[ 0.,  1.],
             [-1.,  0.]]])
    """
    num_heads, width = table.shape
    frames = (width + 1) // 2
    copies = F.pad(table, (0, 1))[:, None].expand(-1, frames, -1).reshape(num_heads, -1)
    rows = copies[:, : frames * width].view(num_heads, frames, width)
    return rows[..., frames - 1 :]


def attention_weights(q: Tensor, k: Tensor, gate: Tensor | None, bias: Bias) -> Tensor:
    """(B, H, F, F) float32, rows of queries that sum to one, for `Bias.table` (H, F, F).

    Args:
        q: (B, H, F, d) queries.
        k: (B, H, F, d) keys.
        gate: (B, H, F) factors on the position bias of each query; None: no bias.
        bias: Position bias and padding of the batch.
    """
    # Scores, bias and softmax in float32: half precision loses the small ones of a long row.
    scores = scaled_scores(q, k)
    if bias.table is not None and gate is not None:
        scores = scores + gate[..., None].float() * bias.table.float()
    if bias.padding is not None:
        scores = scores.masked_fill(bias.padding[:, None, None], -torch.inf)
    return scores.softmax(-1)


def attend_eager(
    q: Tensor, k: Tensor, v: Tensor, *, gate: Tensor | None, bias: Bias, dropout: float
) -> Tensor:
    """(B, H, F, d) queries, keys, values; gate (B, H, F) -> (B, H, F, d). The reference.

    Args:
        q: (B, H, F, d) queries.
        k: (B, H, F, d) keys.
        v: (B, H, F, d) values.
        gate: (B, H, F) factors on the position bias of each query; None: no bias.
        bias: Position bias and padding of the batch.
        dropout: Rate at which attention weights are dropped.
    """
    weights = F.dropout(attention_weights(q, k, gate, bias), dropout)
    return weights.to(v.dtype) @ v


def attend_sdpa(
    q: Tensor, k: Tensor, v: Tensor, *, gate: Tensor | None, bias: Bias, dropout: float
) -> Tensor:
    """`attend_eager` of (B, H, F, d) through torch's scaled dot product with an additive mask.

    Args: see `attend_eager`.
    """
    # The gate makes the bias another one in every layer, so the mask is built here, one layer at a
    # time, and a compiler can fuse it; for all layers at once it would be the largest tensor there.
    mask = None
    if bias.table is not None and gate is not None:
        mask = (gate[..., None] * bias.table).to(q.dtype)
    if bias.padding is not None:
        base = q.new_zeros(()) if mask is None else mask
        mask = base.masked_fill(bias.padding[:, None, None], -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


def attend_chunked(
    q: Tensor, k: Tensor, v: Tensor, *, gate: Tensor | None, bias: Bias, dropout: float
) -> Tensor:
    """`attend_eager` with a table (H, 2F-1), a few queries at a time; padding frames give 0.

    Args: see `attend_eager`.
    """
    return _by_distance(ChunkedAttention, q, k, v, gate=gate, bias=bias, dropout=dropout)


def attend_by_head(
    q: Tensor, k: Tensor, v: Tensor, *, gate: Tensor | None, bias: Bias, dropout: float
) -> Tensor:
    """`attend_chunked` of (B, H, F, d), a few heads at a time; weights are kept for backward.

    Args: see `attend_eager`.
    """
    return _by_distance(AttentionByHead, q, k, v, gate=gate, bias=bias, dropout=dropout)


def _by_distance(
    function: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    gate: Tensor | None,
    bias: Bias,
    dropout: float,
) -> Tensor:
    # One number stands for all dropout masks: the backward pass draws them again from it.
    seed = draw_seed() if dropout > 0 else 0
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    gate = q.new_zeros(q.shape[:3]) if gate is None else gate  # without a table nothing reads it
    out: Tensor = function.apply(
        q, k, v, gate.contiguous(), bias.table, bias.lengths, dropout, seed
    )
    return out


def choose(backend: Attention, x: Tensor, num_heads: int, *, kernels: bool) -> Attention:
    """What "auto" stands for; any other back-end is itself.

    Args:
        backend: As configured.
        x: (B, F, D), what attention is given.
        num_heads: Its heads.
        kernels: Whether the kernels of a CPU are in use.
    """
    num_frames = x.shape[1]
    if backend != "auto":
        return backend
    if torch.compiler.is_compiling():  # chunks are a loop over rows, which a compiler would unroll
        return "sdpa"
    if not kernels:
        return "chunked" if num_frames > LONG else "sdpa"
    dtype, learns = autocast_dtype(x), torch.is_grad_enabled()
    # Weights of all heads that one layer would keep for its backward pass.
    kept = len(x) * num_heads * num_frames**2 * dtype.itemsize
    if num_frames > LONG_ON_CPU or (learns and kept > MOST_BYTES):
        return "chunked"
    return "sdpa" if dtype == torch.float32 and not learns else "by_head"


BACKENDS = {
    "eager": attend_eager,
    "sdpa": attend_sdpa,
    "by_head": attend_by_head,
    "chunked": attend_chunked,
}
# Back-ends that read biases by distance, and the lengths of rows.
BY_DISTANCE = ("by_head", "chunked")


class SelfAttention(nn.Module):
    """Multi-head self-attention; the gate's two logits are sums over groups of four outputs."""

    def __init__(self, config: WavLMConfig):
        super().__init__()
        dim, self.num_heads = config.dim, config.num_heads
        self.dropout = config.attention_dropout
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value, self.output = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.gate: nn.Linear | None = None
        if config.position_bias == "gated":
            self.gate = nn.Linear(dim // self.num_heads, 8)
            self.gate_scale = nn.Parameter(torch.ones(1, self.num_heads, 1, 1))

    def heads(self, x: Tensor) -> Tensor:
        """(B, F, D) -> (B, H, F, d)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def gates(self, x: Tensor) -> Tensor | None:
        """Factor (B, H, F) on the position bias of each query, of the module's input (B, F, D)."""
        if self.gate is None:
            return None
        # Four outputs are summed to one logit: their weights are summed instead.
        weight = self.gate.weight.unflatten(0, (2, 4)).sum(1)
        bias = self.gate.bias.unflatten(0, (2, 4)).sum(1)
        logits = F.linear(x.unflatten(-1, (self.num_heads, -1)), weight, bias)  # (B, F, H, 2)
        # Near 1.75 for first weights, whatever the input: the bias begins all but ungated.
        a, b = logits.transpose(1, 2).sigmoid().unbind(-1)  # (B, H, F) each
        return a * (b * self.gate_scale[..., 0] - 1) + 2

    def forward(self, x: Tensor, bias: Bias, backend: Attention) -> Tensor:
        """(B, F, D) -> (B, F, D).

        Args:
            x: (B, F, D) frames.
            bias: Position bias and padding, shared by all blocks.
            backend: What computes attention; "auto" is resolved before.
        """
        q, k, v = (self.heads(linear(p, x)) for p in (self.query, self.key, self.value))
        dropout = self.dropout if self.training else 0.0
        y = BACKENDS[backend](q, k, v, gate=self.gates(x), bias=bias, dropout=dropout)
        return linear(self.output, y.transpose(1, 2).flatten(2))
