# SPDX-License-Identifier: Apache-2.0
"""One direction of a wide LSTM in bfloat16, for a CPU.

torch's own LSTM lays out the recurrent matrix anew for every frame and multiplies it by few rows.
Here it is laid out once a batch, and what does not wait for the frame before, the products with the
input and the gradients of the weights, is one product over all frames. Cells and the slopes of the
gates are computed in float32.

Frames are packed: frame 0 of all utterances, the longest first, then frame 1 of those that have
one, and so on, so that padding costs nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from wavlm_lightning.runtime import autocast_dtype

MIN_HIDDEN = 512  # torch's LSTM is as fast or faster below


class Packing(NamedTuple):
    """Where packed frames lie."""

    onward: Tensor  # (N,) places in the flattened (B * F), read from the first frame on
    back: Tensor  # (N,) the same, read from each utterance's last frame on
    before: Tensor  # (N,) packed places of the frames before; frames 0 have themselves
    starts: list[int]  # of each frame's utterances, and N

    def steps(self) -> list[tuple[slice, slice]]:
        """Each frame's packed places, and those of the frame before for as many utterances."""
        spans = list(zip(self.starts, self.starts[1:], strict=False))
        earlier = [0, *self.starts]
        return [
            (slice(a, b), slice(before, before + b - a))
            for (a, b), before in zip(spans, earlier, strict=False)
        ]


def packing(lengths: Tensor, num_frames: int) -> Packing:
    """Packed places of the valid frames (B,) of a batch of so many frames.

    >>> packing(torch.tensor([1, 3]), 4).onward
    tensor([4, 0, 5, 6])
    >>> packing(torch.tensor([1, 3]), 4).back
    tensor([6, 0, 5, 4])
    """
    order = torch.argsort(lengths, descending=True, stable=True)
    longest_first, frame = lengths[order], torch.arange(int(lengths.max()))[:, None]
    there = frame < longest_first
    sizes = there.sum(1)
    starts = sizes.cumsum(0) - sizes
    first = order * num_frames
    before = torch.cat([starts[:1], starts[:-1]])[:, None] + torch.arange(len(lengths))
    return Packing(
        onward=(first + frame)[there],
        back=(first + longest_first - 1 - frame)[there],
        before=before[there],
        starts=[*starts.tolist(), int(there.sum())],
    )


def takes_bfloat16(x: Tensor, hidden: int) -> bool:
    """Whether this kernel runs for x (..., C): on a CPU, in bfloat16, and wide."""
    here = x.device.type == "cpu" and autocast_dtype(x) == torch.bfloat16
    return here and hidden >= MIN_HIDDEN and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def run_direction(x: Tensor, weights: Sequence[Tensor], packed: Packing) -> Tensor:
    """An LSTM over packed frames.

    Args:
        x: (N, D) in the order in which this direction reads.
        weights: of the input (4H, D), recurrent (4H, H), and two biases (4H,), as torch has them.
        packed: how x is packed.

    Returns:
        (N, H) bfloat16.
    """
    of_input, recurrent, bias, other_bias = weights
    gates = F.linear(x, of_input, bias + other_bias)
    out: Tensor = _Recurrence.apply(gates, recurrent, packed)
    return out


def _product(weight: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """A product with a weight (O, C) that is laid out once: (B, C) -> (B, O)."""
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, laid_out, None, "none", [], "")


_through_sigmoid = torch.ops.aten.sigmoid_backward  # (gradient, what the sigmoid gave)
_through_tanh = torch.ops.aten.tanh_backward


class _Recurrence(torch.autograd.Function):
    """Gates (N, 4H) without what the frame before adds to them -> outputs (N, H)."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, recurrent: Tensor, packed: Packing) -> Tensor:
        recurrent = recurrent.to(torch.bfloat16)
        product = _product(recurrent, packed.starts[1])
        hidden = recurrent.shape[1]
        opened = torch.empty_like(gates)
        cells = gates.new_empty(len(gates), hidden, dtype=torch.float32)
        outputs = gates.new_empty(len(gates), hidden)
        for here, earlier in packed.steps():
            opening = gates[here].float()
            if here.start:
                opening += product(outputs[earlier])
            enter, keep, update, leave = opening.chunk(4, dim=1)
            opening[:, : 2 * hidden].sigmoid_()
            update.tanh_()
            leave.sigmoid_()
            cell = torch.mul(enter, update, out=cells[here])
            if here.start:
                cell.addcmul_(keep, cells[earlier])
            outputs[here] = cell.tanh().mul_(leave)
            opened[here] = opening
        ctx.save_for_backward(opened, cells, outputs, recurrent)
        ctx.packed = packed
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, doutputs: Tensor) -> tuple[Tensor, Tensor, None]:
        opened, cells, outputs, recurrent = ctx.saved_tensors
        packed: Packing = ctx.packed
        product = _product(recurrent.t(), packed.starts[1])
        dgates = torch.empty_like(opened)
        before: Tensor | float
        after, dearlier = None, cells[:0]
        for here, earlier in reversed(packed.steps()):
            enter, keep, update, leave = opened[here].float().chunk(4, dim=1)
            doutput, shown = doutputs[here].float(), cells[here].tanh()
            if after is not None:
                doutput[: len(dearlier)] += product(dgates[after])
            dcell = _through_tanh(doutput * leave, shown)
            dcell[: len(dearlier)] += dearlier
            before = cells[earlier] if here.start else 0.0
            denter, dkeep, dupdate, dleave = dgates[here].chunk(4, dim=1)
            denter.copy_(_through_sigmoid(dcell * update, enter))
            dkeep.copy_(_through_sigmoid(dcell * before, keep))
            dupdate.copy_(_through_tanh(dcell * enter, update))
            dleave.copy_(_through_sigmoid(doutput * shown, leave))
            after, dearlier = here, dcell * keep
        first = packed.starts[1]
        drecurrent = dgates[first:].t() @ outputs[packed.before[first:]]
        return dgates, drecurrent, None
