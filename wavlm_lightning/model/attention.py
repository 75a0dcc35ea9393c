# SPDX-License-Identifier: Apache-2.0
"""Self-attention with the gated relative position bias.

Every query row scales one shared table of distance biases by a gate that it computes from its own
input (Chen et al. 2021, section 3.1). Differs from the paper, as the released weights do: the gate
reads the input of the attention module, not the projected query.

Back-ends agree; `eager` is the reference. `table` (H, 2F-1) holds the bias of distance r at
r + F - 1, looked up once a forward pass.

    back-end   memory            dropout   gradient   where
    eager      square            yes       yes        everywhere
    sdpa       square            yes       yes        everywhere; the fastest for short inference
    chunked    linear            yes       yes        everywhere; the fastest for training on a CPU
    flex       linear            no        on CUDA    compiles, so needs a C++ compiler or Triton
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.model.chunked import ChunkedAttention, scaled_scores
from wavlm_lightning.model.config import Attention, WavLMConfig
from wavlm_lightning.model.dropout import draw_seed

# Frames from which inference goes in chunks: scores of a whole minute take gigabytes.
LONG = 1024


class Bias(NamedTuple):
    """Position bias shared by all layers of one forward pass, and which keys are padding."""

    table: Tensor | None  # (H, 2F-1) or, for the dense back-ends, (H, F, F); None: no bias
    padding: Tensor | None  # (B, F) bool, True on padding; None: no padding
    lengths: tuple[int, ...] | None = None  # valid frames of each row; None: no padding


def dense_table(table: Tensor) -> Tensor:
    """Biases by distance (H, 2F-1) -> by query and key (H, F, F).

    >>> dense_table(torch.tensor([[-1.0, 0.0, 1.0]]))
    tensor([[[ 0.,  1.],
             [-1.,  0.]]])
    """
    num_frames = (table.shape[-1] + 1) // 2
    return table.unfold(-1, num_frames, 1).flip(1)


def attend_eager(
    q: Tensor, k: Tensor, v: Tensor, *, gate: Tensor | None, bias: Bias, dropout: float
) -> Tensor:
    """(B, H, F, d) queries, keys, values; gate (B, H, F) -> (B, H, F, d). The reference."""
    scores = scaled_scores(q, k)
    if bias.table is not None and gate is not None:
        scores = scores + gate[..., None].float() * bias.table.float()
    if bias.padding is not None:
        scores = scores.masked_fill(bias.padding[:, None, None], -torch.inf)
    weights = F.dropout(scores.softmax(-1), dropout)
    return weights.to(v.dtype) @ v


def attend_sdpa(
    q: Tensor, k: Tensor, v: Tensor, *, gate: Tensor | None, bias: Bias, dropout: float
) -> Tensor:
    """As `attend_eager`, through torch's scaled dot product with an additive mask."""
    mask = None
    if bias.table is not None and gate is not None:
        mask = (gate[..., None] * bias.table).to(q.dtype)
    if bias.padding is not None:
        base = q.new_zeros(()) if mask is None else mask
        mask = base.masked_fill(bias.padding[:, None, None], -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


@torch.compiler.disable
def attend_chunked(
    q: Tensor, k: Tensor, v: Tensor, *, gate: Tensor | None, bias: Bias, dropout: float
) -> Tensor:
    """As `attend_eager` with a table (H, 2F-1), a few queries at a time; padding frames give 0."""
    seed = draw_seed() if dropout > 0 else 0
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    gate = q.new_zeros(q.shape[:3]) if gate is None else gate  # without a table nothing reads it
    out: Tensor = ChunkedAttention.apply(
        q, k, v, gate.contiguous(), bias.table, bias.lengths, dropout, seed
    )
    return out


@cache
def _flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    compiled: Callable[..., Tensor] = torch.compile(flex_attention, dynamic=False)  # type: ignore[arg-type]
    return compiled


def attend_flex(
    q: Tensor, k: Tensor, v: Tensor, *, gate: Tensor | None, bias: Bias, dropout: float
) -> Tensor:
    """As `attend_eager` with a table (H, 2F-1), without ever holding an F x F tensor.

    Raises:
        ValueError: for attention dropout, which FlexAttention does not have.
    """
    if dropout > 0:
        raise ValueError("attention=flex has no attention dropout: say model.attention_dropout=0")
    table, padding, last = bias.table, bias.padding, q.shape[2] - 1

    def score(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        if table is not None and gate is not None:
            score = score + gate[b, h, i] * table[h, j - i + last]
        if padding is not None:
            score = torch.where(padding[b, j], -torch.inf, score)
        return score

    return _flex()(q.contiguous(), k.contiguous(), v.contiguous(), score_mod=score)


def choose(backend: Attention, *, num_frames: int, training: bool) -> Attention:
    """What "auto" stands for; any other back-end is itself."""
    if backend != "auto":
        return backend
    return "chunked" if training or num_frames > LONG else "sdpa"


BACKENDS = {
    "eager": attend_eager,
    "sdpa": attend_sdpa,
    "chunked": attend_chunked,
    "flex": attend_flex,
}
DENSE = ("eager", "sdpa")  # back-ends that want the table by query and key


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

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, F, d)

    def gates(self, x: Tensor) -> Tensor | None:
        """Factor (B, H, F) on the position bias of each query, of the module's input (B, F, D)."""
        if self.gate is None:
            return None
        # Four outputs are summed to one logit: their weights are summed instead.
        weight = self.gate.weight.unflatten(0, (2, 4)).sum(1)
        bias = self.gate.bias.unflatten(0, (2, 4)).sum(1)
        logits = F.linear(x.unflatten(-1, (self.num_heads, -1)), weight, bias)  # (B, F, H, 2)
        a, b = logits.transpose(1, 2).sigmoid().unbind(-1)  # (B, H, F) each
        return a * (b * self.gate_scale[..., 0] - 1) + 2

    def forward(self, x: Tensor, bias: Bias, backend: Attention) -> Tensor:
        """(B, F, D) -> (B, F, D)."""
        q, k, v = (self._heads(p(x)) for p in (self.query, self.key, self.value))
        dropout = self.dropout if self.training else 0.0
        y = BACKENDS[backend](q, k, v, gate=self.gates(x), bias=bias, dropout=dropout)
        return self.output(y.transpose(1, 2).flatten(2))
