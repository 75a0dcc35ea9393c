# SPDX-License-Identifier: Apache-2.0
"""Exact attention with a gated relative bias in memory that grows with the length, not its square.

Each utterance's queries go through in chunks; a chunk's weights live for that chunk alone and are
computed again in the backward pass, dropout included. Utterances are cut to their own frames, so
padding costs nothing and reaches nothing.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavlm_lightning.model.kernels.dropout import keep_mask

# What the scores are divided by before a half-precision product (the paper's equation 8).
HALF_PRECISION_SCALE = 32.0
# Scores of a chunk, all heads. On a processor they should stay in its cache: 2 MiB.
CHUNK_ELEMENTS = {"cpu": 2**19}
CHUNK_ELEMENTS_ELSEWHERE = 2**24
SUMMED_ROWS = 64  # rows of scores whose sums by distance are taken together


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


def near(table: Tensor, chunk: Chunk) -> Tensor:
    """The part of (H, 2F-1) biases by distance that a chunk needs: (H, c+f-1)."""
    centre = table.shape[-1] // 2
    return table[:, centre + 1 - chunk.stop : centre + chunk.frames - chunk.start]


def add_by_distance(dtable: Tensor, dscores: Tensor, gates: Tensor, chunk: Chunk) -> None:
    """Add what the gradient of a chunk's scores gives to that of the biases by distance.

    Args:
        dtable: (H, 2F-1) float32, added to in place.
        dscores: (H, c, f) float32, last query first.
        gates: (H, c, 1) float32, last query first.
        chunk: Its queries and keys.
    """
    for first in range(0, dscores.shape[1], SUMMED_ROWS):
        rows, gate = (x[:, first : first + SUMMED_ROWS] for x in (dscores, gates))
        size, width = rows.shape[1], chunk.frames + rows.shape[1]
        # Rows of one element more than their sums are long: each lies one to the right of the last.
        skewed = rows.new_zeros(len(rows), size, width)
        torch.mul(rows, gate, out=skewed[..., : chunk.frames])
        skewed = skewed.flatten(1)[:, : size * (width - 1)].unflatten(1, (size, width - 1))
        part = chunk._replace(start=chunk.stop - first - size, stop=chunk.stop - first)
        near(dtable, part).add_(skewed.sum(1))


class ChunkedAttention(torch.autograd.Function):
    """See `attend_chunked` in the module of attention.

    Within a chunk the last query comes first: then row r, column j of the bias is entry r + j of
    the table, a view that needs no copy.
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
        scaled = v / (1 - dropout) if dropout > 0 else v
        for number, chunk in enumerate(chunks(q, lengths)):
            row, queries, keys = chunk.row, slice(chunk.start, chunk.stop), slice(chunk.frames)
            gates = gate[row, :, queries, None].flip(1).float()  # (H, c, 1)
            weights = attention_weights(
                q[row, :, queries].flip(1), k[row, :, keys], gates, table, chunk
            )
            if dropout > 0:
                weights.mul_(keep_mask(weights.shape, dropout, seed=seed + number, like=weights))
            out[row, :, queries] = (weights.to(v.dtype) @ scaled[row, :, keys]).flip(1)
        ctx.save_for_backward(q, k, v, gate, table)
        ctx.rest = (lengths, dropout, seed)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, gate, table = ctx.saved_tensors
        lengths, dropout, seed = ctx.rest
        scale = q.shape[-1] ** -0.5
        grad = grads[0] / (1 - dropout) if dropout > 0 else grads[0]
        dq, dgate = torch.zeros_like(q), torch.zeros_like(gate)
        dk, dv = (torch.zeros_like(x, dtype=torch.float32) for x in (k, v))
        dtable = None if table is None else torch.zeros_like(table, dtype=torch.float32)
        for number, chunk in enumerate(chunks(q, lengths)):
            row, queries, keys = chunk.row, slice(chunk.start, chunk.stop), slice(chunk.frames)
            own, g = q[row, :, queries].flip(1), grad[row, :, queries].flip(1)  # (H, c, d)
            gates = gate[row, :, queries, None].flip(1).float()  # (H, c, 1)
            weights = attention_weights(own, k[row, :, keys], gates, table, chunk)
            dweights = (g @ v[row, :, keys].transpose(-1, -2)).float()
            used = weights
            if dropout > 0:
                used = keep_mask(weights.shape, dropout, seed=seed + number, like=weights)
                dweights.mul_(used)
                used.mul_(weights)
            _add_product(dv[row, :, keys], used.to(g.dtype).transpose(-1, -2), g, 1.0)
            dscores = torch._softmax_backward_data(dweights, weights, -1, torch.float32)
            if table is not None and dtable is not None:
                distances = near(table.float(), chunk).unfold(-1, chunk.frames, 1)
                dgate[row, :, queries] = torch.mul(dscores, distances, out=dweights).sum(-1).flip(1)
                add_by_distance(dtable, dscores, gates, chunk)
            dscores = dscores.to(q.dtype)
            dq[row, :, queries] = (dscores @ k[row, :, keys]).mul_(scale).flip(1)
            _add_product(dk[row, :, keys], dscores.transpose(-1, -2), own, scale)
        last = None if table is None or dtable is None else dtable.to(table.dtype)
        return dq, dk.to(k.dtype), dv.to(v.dtype), dgate, last, None, None, None


def attention_weights(
    q: Tensor, k: Tensor, gates: Tensor, table: Tensor | None, chunk: Chunk
) -> Tensor:
    """Attention weights (H, c, f) in float32, before dropout.

    Args:
        q: (H, c, d) queries, the last one first.
        k: (H, f, d) keys.
        gates: (H, c, 1) float32, last query first.
        table: (H, 2F-1) biases by distance, None for no bias.
        chunk: The queries and keys.
    """
    if table is None:
        return scaled_scores(q, k).softmax(-1)
    bias = gates * near(table.float(), chunk).unfold(-1, chunk.frames, 1)
    if q.dtype == torch.float32:
        scores = bias.baddbmm_(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    else:
        scores = scaled_scores(q, k).add_(bias)
    return scores.softmax(-1)


def _add_product(out: Tensor, a: Tensor, b: Tensor, scale: float) -> None:
    """out += scale * a @ b, out in float32."""
    if a.dtype == out.dtype:
        out.baddbmm_(a, b, alpha=scale)
    else:
        out.add_(a @ b, alpha=scale)
