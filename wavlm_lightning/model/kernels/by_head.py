# SPDX-License-Identifier: Apache-2.0
"""Exact attention with a gated relative bias, a few heads at a time.

Their scores stay in the cache of a processor. Weights are kept for the backward pass: in half the
memory of what autograd would keep, and two thirds of the time of `chunked`, which computes them
again. One that dropout zeroes is kept with its sign turned: weights are positive, so a kept one
says both what it was and whether it was used.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavlm_lightning.model.kernels.chunked import (
    Chunk,
    add_by_distance,
    attention_weights,
    near,
)
from wavlm_lightning.model.kernels.dropout import drop_mask

SCORES = 2**21  # of a few heads; fewer are slower alone, more do not stay in the cache
# Weights of one layer, at most; more of them are not kept. 87 s of 15.6 s in bfloat16 take 70 MiB,
# and 40 s of 20 s in float32 would take 91: there memory is worth more than the time.
MOST_BYTES = 80 * 2**20


class Heads(NamedTuple):
    """Some heads of one utterance."""

    row: int
    heads: slice
    frames: int  # the utterance's own

    @property
    def chunk(self) -> Chunk:
        """All queries of the utterance."""
        return Chunk(self.row, 0, self.frames, self.frames)

    def own(self, x: Tensor) -> Tensor:
        """Their part (h, f, ...) of (B, H, F, ...)."""
        return x[self.row, self.heads, : self.frames]

    def of(self, table: Tensor | None) -> Tensor | None:
        """Their part (h, 2F-1) of (H, 2F-1)."""
        return None if table is None else table[self.heads]


def groups(q: Tensor, lengths: tuple[int, ...] | None) -> Iterator[Heads]:
    """All heads of a batch of queries (B, H, F, d), a few at a time."""
    rows, heads, longest, _ = q.shape
    for row in range(rows):
        frames = longest if lengths is None else lengths[row]
        size = min(heads, max(1, SCORES // frames**2))
        size = -(-heads // -(-heads // size))  # groups of one size
        for first in range(0, heads, size):
            yield Heads(row, slice(first, min(first + size, heads)), frames)


class AttentionByHead(torch.autograd.Function):
    """See `attend_by_head` in the module of attention.

    The last query comes first: then row r, column j of the bias is entry r + j of the table, a view
    that needs no copy.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        gate: Tensor,
        table: Tensor | None,
        lengths: tuple[int, ...] | None,
        dropout: float,
        seed: int,
    ) -> Tensor:
        out = torch.zeros_like(v) if lengths is not None else torch.empty_like(v)
        queries, gates = q.flip(2), gate[..., None].float().flip(2)
        scaled = v / (1 - dropout) if dropout > 0 else v
        kept = []
        for number, part in enumerate(groups(q, lengths)):
            own, own_gates = _last_first(queries, part), _last_first(gates, part)
            weights = attention_weights(own, part.own(k), own_gates, part.of(table), part.chunk)
            weights = weights.to(q.dtype)
            used = weights
            if dropout > 0:
                dropped = drop_mask(weights.shape, dropout, seed=seed + number, like=weights)
                weights.sub_(dropped.mul_(weights), alpha=2)
                used = weights.relu()
            part.own(out).copy_((used @ part.own(scaled)).flip(1))
            if any(ctx.needs_input_grad):
                kept.append(weights)
        ctx.save_for_backward(q, k, v, gate, table, *kept)
        ctx.rest = (lengths, dropout)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, gate, table, *kept = ctx.saved_tensors
        lengths, dropout = ctx.rest
        scale = q.shape[-1] ** -0.5
        grad = (grads[0] / (1 - dropout) if dropout > 0 else grads[0]).flip(2)
        queries, gates = q.flip(2), gate[..., None].float().flip(2)
        make = torch.zeros_like if lengths is not None else torch.empty_like
        dq, dk, dv, dgate = make(q), make(k), make(v), torch.zeros_like(gate)
        dtable = None if table is None else torch.zeros_like(table, dtype=torch.float32)
        for weights, part in zip(kept, groups(q, lengths), strict=True):
            g = _last_first(grad, part)
            used, dweights = weights, g @ part.own(v).transpose(1, 2)
            if dropout > 0:
                used = weights.relu()
                dweights = torch.ops.aten.threshold_backward(dweights, weights, 0)
                weights = weights.abs()
            part.own(dv).copy_(used.transpose(1, 2) @ g)
            dscores = torch._softmax_backward_data(
                dweights.float(), weights.float(), -1, torch.float32
            )
            if table is not None and dtable is not None:
                distances = near(table[part.heads].float(), part.chunk).unfold(-1, part.frames, 1)
                part.own(dgate).copy_((dscores * distances).sum(-1).flip(1))
                own_gates = _last_first(gates, part)
                add_by_distance(dtable[part.heads], dscores, own_gates, part.chunk)
            dscores = dscores.to(q.dtype)
            part.own(dq).copy_((dscores @ part.own(k)).mul_(scale).flip(1))
            part.own(dk).copy_((dscores.transpose(1, 2) @ _last_first(queries, part)).mul_(scale))
        last = None if table is None or dtable is None else dtable.to(table.dtype)
        return dq, dk, dv, dgate, last, None, None, None


def _last_first(flipped: Tensor, part: Heads) -> Tensor:
    """(h, f, ...) of (B, H, F, ...) that is flipped over F: an utterance's own end comes last."""
    return flipped[part.row, part.heads, flipped.shape[2] - part.frames :]
