# SPDX-License-Identifier: Apache-2.0
"""Predictions of all processes, in the order of the split."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch.distributed as dist

Rows = dict[int, tuple[str, Any]]  # place in the split -> id and prediction


def gathered(mine: Mapping[str, Rows], names: Iterable[str], world: int) -> dict[str, Any]:
    """Predictions by id, of each of several heads.

    Args:
        mine: rows that this process has predicted, by head.
        names: of the heads.
        world: processes; all of them call this.
    """
    parts: list[Any] = [mine]
    if world > 1:
        parts = [None] * world
        dist.all_gather_object(parts, mine)
    found = {}
    for name in names:
        rows = {i: row for part in parts for i, row in part.get(name, {}).items()}
        found[name] = {label: value for _, (label, value) in sorted(rows.items())}
    return found
