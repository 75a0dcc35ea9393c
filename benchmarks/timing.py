# SPDX-License-Identifier: Apache-2.0
"""Interleaved timing: all contenders in turn, so that a busy moment hits them alike."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from benchmarks.contenders import Setting

Turn = Callable[[], tuple[float, float]]  # seconds and MiB


class Timed(NamedTuple):
    """Of one contender."""

    seconds: float  # median
    ratio: float  # median of its seconds over ours, turn by turn
    mib: float  # most of all turns


class Child:
    """A contender that runs elsewhere; see `benchmarks.child`."""

    def __init__(self, name: str, what: str, setting: Setting, *, tuned: bool = True):
        about = [name, what, json.dumps(asdict(setting)), "tuned" if tuned else "plain"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", *about],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self) -> tuple[float, float]:
        """Seconds of one turn, and the most MiB so far."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("turn\n")
        self.process.stdin.flush()
        seconds, mib = self.process.stdout.readline().split()
        return float(seconds), float(mib)

    def close(self) -> None:
        """End it, and free its memory."""
        self.process.communicate()


def seconds_of(work: Callable[[], Any]) -> float:
    """One run, the device's queue emptied."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(turns: Mapping[str, Turn], *, runs: int, ours: str) -> dict[str, Timed]:
    """Medians of each, and ratios to ours; the first turn of each does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    mib = dict.fromkeys(turns, 0.0)
    for number in range(runs + 1):
        for name, turn in turns.items():
            took, mib[name] = turn()
            if number > 0:
                seconds[name].append(took)
    return {
        name: Timed(
            statistics.median(own),
            statistics.median([a / b for a, b in zip(own, seconds[ours], strict=True)]),
            mib[name],
        )
        for name, own in seconds.items()
    }
