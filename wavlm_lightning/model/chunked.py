# SPDX-License-Identifier: Apache-2.0
"""Exact attention with a gated relative bias in memory that grows with the length, not its square.

Each utterance's queries go through in chunks; a chunk's weights live for that chunk alone and are
computed again in the backward pass, dropout included. Utterances are cut to their own frames, so
padding costs nothing and reaches nothing.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wavlm_lightning.model.dropout import keep_mask

# What the scores are divided by before a half-precision product (the paper's equation 8).
HALF_PRECISION_SCALE = 32.0
# Scores of a chunk, all heads. On a processor they should stay in its cache: 2 MiB.
CHUNK_ELEMENTS = {"cpu": 2**19}
CHUNK_ELEMENTS_ELSEWHERE = 2**24


def scaled_scores(q: Tensor, k: Tensor) -> Tensor:
    """(..., c, d) queries and (..., f, d) keys -> (..., c, f) products over sqrt(d) in float32."""
    scale = q.shape[-1] ** -0.5
    if q.dtype == torch.float16:
        scores = (q * (scale / HALF_PRECISION_SCALE)) @ k.transpose(-1, -2)
        return scores.float() * HALF_PRECISION_SCALE
    return ((q * scale) @ k.transpose(-1, -2)).float()


class Chunk(NamedTuple):
    """Some queries of one utterance."""

    row: int
    start: int
    stop: int
    frames: int  # keys: the utterance's own


def chunks(q: Tensor, lengths: tuple[int, ...] | None) -> list[Chunk]:
    """All chunks of a batch of queries (B, H, F, d)."""
    rows, heads, longest, _ = q.shape
    budget = CHUNK_ELEMENTS.get(q.device.type, CHUNK_ELEMENTS_ELSEWHERE)
    found = []
    for row in range(rows):
        frames = longest if lengths is None else lengths[row]
        size = max(1, budget // (heads * frames))
        size = -(-frames // -(-frames // size))  # chunks of one size
        for start in range(0, frames, size):
            found.append(Chunk(row, start, min(start + size, frames), frames))
    return found


def _bias(table: Tensor, chunk: Chunk) -> Tensor:
    """Distance biases (H, 2F-1) -> those of a chunk's queries and keys (H, c, f)."""
    centre = table.shape[-1] // 2
    near = table[:, centre + 1 - chunk.stop : centre + chunk.frames - chunk.start]
    return near.unfold(-1, chunk.frames, 1).flip(1)


def _sum_by_distance(x: Tensor, table: Tensor, chunk: Chunk) -> None:
    """Add (H, c, f) to the entries of `table` (H, 2F-1) that `_bias` took them from."""
    size = chunk.stop - chunk.start
    width = chunk.frames + size
    # Rows of one element more than their sums are long: each row lies one to the right of the last.
    skewed = F.pad(x.flip(1), (0, size)).flatten(1)[:, : size * (width - 1)]
    centre = table.shape[-1] // 2
    part = table[:, centre + 1 - chunk.stop : centre + chunk.frames - chunk.start]
    part += skewed.unflatten(1, (size, width - 1)).sum(1)


class ChunkedAttention(torch.autograd.Function):
    """See `attend_chunked` in the module of attention."""

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
        for number, chunk in enumerate(chunks(q, lengths)):
            row, queries, keys = chunk.row, slice(chunk.start, chunk.stop), slice(chunk.frames)
            weights = _weights(q, k, gate, table, chunk=chunk)
            if dropout > 0:
                weights.mul_(_keep(weights, dropout, seed + number)).mul_(1 / (1 - dropout))
            torch.bmm(weights.to(v.dtype), v[row, :, keys], out=out[row, :, queries])
        ctx.save_for_backward(q, k, v, gate, table)
        ctx.rest = (lengths, dropout, seed)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, gate, table = ctx.saved_tensors
        lengths, dropout, seed = ctx.rest
        scale = q.shape[-1] ** -0.5
        grad = grads[0].contiguous()
        dq, dk, dv = (torch.zeros_like(x, dtype=torch.float32) for x in (q, k, v))
        dgate = torch.zeros_like(gate, dtype=torch.float32)
        dtable = None if table is None else torch.zeros_like(table, dtype=torch.float32)
        for number, chunk in enumerate(chunks(q, lengths)):
            row, queries, keys = chunk.row, slice(chunk.start, chunk.stop), slice(chunk.frames)
            weights = _weights(q, k, gate, table, chunk=chunk)
            g = grad[row, :, queries]
            dweights = (g @ v[row, :, keys].transpose(-1, -2)).float()
            used = weights
            if dropout > 0:
                keep = _keep(weights, dropout, seed + number).mul_(1 / (1 - dropout))
                dweights.mul_(keep)
                used = keep.mul_(weights)
            _add_product(dv[row, :, keys], used.to(g.dtype).transpose(-1, -2), g, 1.0)
            dscores = torch._softmax_backward_data(dweights, weights, -1, torch.float32)
            if table is not None and dtable is not None:
                gates = gate[row, :, queries, None].float()
                bias = _bias(table, chunk)
                torch.sum(dscores * bias, -1, out=dgate[row, :, queries])
                _sum_by_distance(dscores * gates, dtable, chunk)
            dscores = dscores.to(q.dtype)
            _add_product(dq[row, :, queries], dscores, k[row, :, keys], scale)
            _add_product(dk[row, :, keys], dscores.transpose(-1, -2), q[row, :, queries], scale)
        found = (dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), dgate.to(gate.dtype))
        last = None if table is None or dtable is None else dtable.to(table.dtype)
        return *found, last, None, None, None


def _weights(q: Tensor, k: Tensor, gate: Tensor, table: Tensor | None, *, chunk: Chunk) -> Tensor:
    """Attention weights (H, c, f) of one chunk in float32, before dropout."""
    queries, keys = q[chunk.row, :, chunk.start : chunk.stop], k[chunk.row, :, : chunk.frames]
    scores = scaled_scores(queries, keys)
    if table is not None:
        gates = gate[chunk.row, :, chunk.start : chunk.stop, None].float()
        scores.addcmul_(gates, _bias(table, chunk))
    return scores.softmax(-1)


def _keep(like: Tensor, rate: float, seed: int) -> Tensor:
    return keep_mask(like.shape, rate, seed=seed, like=like)


def _add_product(out: Tensor, a: Tensor, b: Tensor, scale: float) -> None:
    """out += scale * a @ b, out in float32."""
    if a.dtype == out.dtype:
        out.baddbmm_(a, b, alpha=scale)
    else:
        out.add_(a @ b, alpha=scale)
