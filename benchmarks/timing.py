# SPDX-License-Identifier: Apache-2.0
"""Interleaved timing: all contenders in turn, so that a busy moment hits them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch


class Timed(NamedTuple):
    """Of one contender."""

    seconds: float  # median
    ratio: float  # median of its seconds over ours, run by run


def seconds_of(work: Callable[[], Any]) -> float:
    """One run, the device's queue emptied."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(
    works: Mapping[str, Callable[[], Any]], *, runs: int, ours: str
) -> dict[str, Timed]:
    """Median seconds of each, and ratio to ours; the first run of each does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            took = seconds_of(work)
            if turn > 0:
                seconds[name].append(took)
    reference = seconds[ours]
    return {
        name: Timed(
            statistics.median(own),
            statistics.median([a / b for a, b in zip(own, reference, strict=True)]),
        )
        for name, own in seconds.items()
    }
