# SPDX-License-Identifier: Apache-2.0
"""Losses that are not finite, looked for once an update: to look makes the host wait for a GPU."""

import math
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from wavlm_lightning.lengths import SAMPLE_RATE


class Bad(NamedTuple):
    """The first batch of an update on which a loss was not finite."""

    value: float | None  # None: it is of another process
    ids: list[str]  # its utterances, none of another process

    def __str__(self) -> str:
        if self.value is None:
            return "the loss is not finite on a batch of another process"
        return f"the loss is {self.value} on {some(self.ids)}"


class LossWatch:
    """Losses of the batches of an update, one or several a batch."""

    def __init__(self) -> None:
        self._seen: list[tuple[Tensor, list[str]]] = []

    def add(self, losses: Tensor, ids: list[str]) -> None:
        """Keep losses (N,) of a batch, and the names of its utterances."""
        self._seen.append((losses.detach(), ids))

    def look(self, *, world: int) -> dict[int, Bad]:
        """Number of each loss that was not finite since the last look, in any process.

        Args:
            world: Processes; all of them look.
        """
        seen, self._seen = self._seen, []
        losses = torch.stack([losses for losses, _ in seen])  # (batches, N)
        wrong = (~losses.isfinite()).any(0).float()
        if world > 1:
            dist.all_reduce(wrong, dist.ReduceOp.MAX)
        if not bool(wrong.any()):  # the one wait
            return {}
        return {
            number: _first(column, [ids for _, ids in seen])
            for number, column in enumerate(losses.T.tolist())
            if wrong[number]
        }


def _first(values: list[float], ids: list[list[str]]) -> Bad:
    pairs = zip(values, ids, strict=True)
    return next((Bad(v, own) for v, own in pairs if not math.isfinite(v)), Bad(None, []))


def out_of_memory(lengths: Tensor, ids: list[str]) -> torch.OutOfMemoryError:
    """An error that says on what memory was short: utterances with lengths (B,) in samples."""
    seconds = float(lengths.max()) / SAMPLE_RATE * len(ids)
    return torch.OutOfMemoryError(
        f"out of memory on {len(ids)} utterances, {seconds:.0f} s with padding ({some(ids)}): "
        "lower data.batch_size and raise data.batches_per_update"
    )


def some(ids: list[str]) -> str:
    """The first names of a batch, and how many more there are."""
    return ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
