# SPDX-License-Identifier: Apache-2.0
"""Strided convolutions over time as matrix products, on channels-last activations.

With a stride s, s neighbouring frames are one row of a matrix that is already in memory, so a
convolution of kernel k is ceil(k / s) products and nothing is copied. Activations are made piece by
piece, used while they are in the processor's cache, and made again when going back: what is kept
of a layer is its output before norm and GELU, of the first two layers that of the second alone.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Norm = tuple[Tensor, Tensor, float]  # of a layer norm over channels: gain (C,), bias (C,), epsilon
Read = Callable[[int, int], Tensor]  # frames from one to before another: (n, C) before norm

PIECE = {"cpu": 4096}  # output frames at a time
PIECE_ELSEWHERE = 2**20


class Taps(NamedTuple):
    """Neighbouring taps of a kernel, `stride` of them or what is left."""

    first: int
    matrix: Tensor  # (taps * C, C')


class Piece(NamedTuple):
    """Some output frames, and the input frames that they see."""

    start: int
    stop: int
    first: int
    last: int  # the one after it


def activated(x: Tensor, norm: Norm | None) -> Tensor:
    """GELU of (..., C), after a layer norm in float32 where there is one; in x's dtype."""
    if norm is not None:
        gain, bias, eps = norm
        x = F.layer_norm(x.float(), x.shape[-1:], gain.float(), bias.float(), eps).to(x.dtype)
    return F.gelu(x)


def num_outputs(frames: int, weight: Tensor, stride: int) -> int:
    """Frames that a kernel (C', C, k) makes of so many.

    Args:
        frames: Frames that go in.
        weight: (C', C, k) kernel.
        stride: Frames from one output to the next.
    """
    return (frames - weight.shape[2]) // stride + 1


def _taps(weight: Tensor, stride: int) -> list[Taps]:
    by_tap = weight.permute(2, 1, 0)  # (k, C, C')
    return [
        Taps(first, by_tap[first : first + stride].reshape(-1, weight.shape[0]))
        for first in range(0, len(by_tap), stride)
    ]


def _pieces(num_frames: int, weight: Tensor, stride: int) -> Iterator[Piece]:
    size = PIECE.get(weight.device.type, PIECE_ELSEWHERE)
    for start in range(0, num_frames, size):
        stop = min(start + size, num_frames)
        yield Piece(start, stop, start * stride, (stop - 1) * stride + weight.shape[2])


def _windows(x: Tensor, taps: Taps, *, frames: int, stride: int) -> Tensor:
    """Rows (frames, taps * C) of contiguous (n, C): what these taps see, every `stride`."""
    size, strides = (frames, len(taps.matrix)), (stride * x.shape[1], 1)
    return x.as_strided(size, strides, x.storage_offset() + taps.first * x.shape[1])


def _convolve(read: Read, weight: Tensor, norm: Norm | None, *, stride: int, out: Tensor) -> None:
    """Convolution (T', C') of the activation of what `read` gives, into `out`."""
    parts = _taps(weight, stride)
    for piece in _pieces(len(out), weight, stride):
        x, y = activated(read(piece.first, piece.last), norm), out[piece.start : piece.stop]
        for taps in parts:
            rows = _windows(x, taps, frames=len(y), stride=stride)
            if taps.first == 0:
                torch.mm(rows, taps.matrix, out=y)
            else:
                y.addmm_(rows, taps.matrix)


class _Gradients:
    """Sums of the gradients of a kernel and of the norm before it, in float32."""

    def __init__(self, weight: Tensor, norm: Norm | None, stride: int):
        self.parts, self.stride, self.norm, self.weight = (
            _taps(weight, stride),
            stride,
            norm,
            weight,
        )
        self.matrices = [torch.zeros_like(t.matrix, dtype=torch.float32) for t in self.parts]
        of_norm = [] if norm is None else [norm[0], norm[1]]
        self.of_norm = [torch.zeros_like(x, dtype=torch.float32) for x in of_norm]

    def add(self, read: Read, grad: Tensor, give: Callable[[Piece, Tensor], None]) -> None:
        """Go back through one row (T, C); `give` takes gradients of pieces, which add up.

        Args:
            read: Gives pieces of the input row (T, C).
            grad: (F, C') gradient of the row's output.
            give: Takes the gradient of a piece; pieces may overlap.
        """
        for piece in _pieces(len(grad), self.weight, self.stride):
            g = grad[piece.start : piece.stop]
            leaves = [read(piece.first, piece.last), *(self.norm or ())[:2]]
            leaves = [x.detach().requires_grad_() for x in leaves]
            with torch.enable_grad():
                norm = None if self.norm is None else (leaves[1], leaves[2], self.norm[2])
                x = activated(leaves[0], norm)
            values, dx = x.detach(), torch.zeros_like(x)
            for taps, total in zip(self.parts, self.matrices, strict=True):
                rows = _windows(values, taps, frames=len(g), stride=self.stride)
                if rows.dtype == torch.float32:
                    total.addmm_(rows.T, g)
                else:
                    total.add_(rows.T @ g)
                _windows(dx, taps, frames=len(g), stride=self.stride).addmm_(g, taps.matrix.T)
            found = torch.autograd.grad(x, leaves, dx)
            give(piece, found[0])
            for sums, one in zip(self.of_norm, found[1:], strict=True):
                sums.add_(one)

    def results(self) -> tuple[Tensor | None, ...]:
        """Gradients of weight (C', C, k), gain and bias."""
        matrix = torch.cat(self.matrices)  # (k * C, C')
        weight = matrix.unflatten(0, (self.weight.shape[2], -1)).permute(2, 1, 0)
        return weight.to(self.weight.dtype), *(self.of_norm or (None, None))


def _norm(gain: Tensor | None, bias: Tensor | None, eps: float) -> Norm | None:
    return None if gain is None or bias is None else (gain, bias, eps)


class ActivatedConv(torch.autograd.Function):
    """x (B, T, C), weight (C', C, k) in x's dtype, gain and bias (C,) or None -> (B, T', C')."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        gain: Tensor | None,
        bias: Tensor | None,
        eps: float,
        stride: int,
    ) -> Tensor:
        out = x.new_empty(len(x), num_outputs(x.shape[1], weight, stride), len(weight))
        for row, y in zip(x, out, strict=True):
            _convolve(_slices(row), weight, _norm(gain, bias, eps), stride=stride, out=y)
        ctx.save_for_backward(x, weight, gain, bias)
        ctx.rest = (eps, stride)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, gain, bias = ctx.saved_tensors
        eps, stride = ctx.rest
        gradients = _Gradients(weight, _norm(gain, bias, eps), stride)
        dx = torch.empty_like(x)
        for row, own, grad in zip(x, dx, grads[0].contiguous(), strict=True):
            gradients.add(_slices(row), grad, _adding_to(own, shared=weight.shape[2] - stride))
        return dx, *gradients.results(), None, None


class FirstTwo(torch.autograd.Function):
    """The layer that reads samples, and the one after it.

    windows (B, T', k) float32, first (B, k, C) and shift (B, C) of each row, weight (C', C, k') in
    the dtype of the result, gain and bias (C,) or None -> (B, T'', C').
    """

    @staticmethod
    def forward(
        ctx: Any,
        windows: Tensor,
        first: Tensor,
        shift: Tensor,
        weight: Tensor,
        gain: Tensor | None,
        bias: Tensor | None,
        eps: float,
        stride: int,
    ) -> Tensor:
        frames = num_outputs(windows.shape[1], weight, stride)
        out = weight.new_empty(len(windows), frames, len(weight))
        for row, y in enumerate(out):
            read = _affine(windows[row], first[row], shift[row], weight.dtype)
            _convolve(read, weight, _norm(gain, bias, eps), stride=stride, out=y)
        ctx.save_for_backward(windows, first, shift, weight, gain, bias)
        ctx.rest = (eps, stride)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        windows, first, shift, weight, gain, bias = ctx.saved_tensors
        eps, stride = ctx.rest
        gradients = _Gradients(weight, _norm(gain, bias, eps), stride)
        # Rows of `first` may lie transposed, and a product into such rows is 18 times slower.
        dfirst, dshift = first.new_zeros(first.shape), torch.zeros_like(shift)
        dwindows = torch.zeros_like(windows) if ctx.needs_input_grad[0] else None
        for row, grad in enumerate(grads[0].contiguous()):

            def give(piece: Piece, dx: Tensor, row: int = row) -> None:
                dx, seen = dx.float(), windows[row, piece.first : piece.last]
                dfirst[row].addmm_(seen.T, dx)
                dshift[row].add_(dx.sum(0))
                if dwindows is not None:
                    dwindows[row, piece.first : piece.last].addmm_(dx, first[row].T)

            read = _affine(windows[row], first[row], shift[row], weight.dtype)
            gradients.add(read, grad, give)
        return dwindows, dfirst, dshift, *gradients.results(), None, None


def _slices(x: Tensor) -> Read:
    return lambda start, stop: x[start:stop]


def _affine(windows: Tensor, matrix: Tensor, shift: Tensor, dtype: torch.dtype) -> Read:
    return lambda start, stop: torch.addmm(shift, windows[start:stop], matrix).to(dtype)


def _adding_to(dx: Tensor, *, shared: int) -> Callable[[Piece, Tensor], None]:
    """Write pieces in their order; each has `shared` frames in common with the one before."""

    def give(piece: Piece, found: Tensor) -> None:
        old = shared if piece.start else 0
        dx[piece.first : piece.first + old].add_(found[:old])
        dx[piece.first + old : piece.last] = found[old:]
        dx[piece.last :] = 0  # what no later piece sees

    return give
