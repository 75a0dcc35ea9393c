# SPDX-License-Identifier: Apache-2.0
"""Interleaved timing: all contenders in turn, so that a busy moment hits them alike."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from statistics import median
from typing import Any, NamedTuple

from benchmarks.contenders import Setting
from benchmarks.host import Use
from benchmarks.names import AS_IT_COMES, ONE_THREAD, TUNED

MOST_FOREIGN = 0.10  # share of the processors that others may take; beyond it a turn is no measure
ROUNDS = 3  # times the rounds that are wanted are tried at most


class Turn(NamedTuple):
    """One run of a contender."""

    use: Use
    mib: float  # the most so far


class Timed(NamedTuple):
    """Medians of one contender over the rounds in which no other process was at work."""

    seconds: float
    ratio: float  # of its seconds over ours, round by round
    mib: float  # most of all turns
    cpu: float  # seconds of all threads
    cpu_ratio: float
    faults: float
    foreign: float  # of all rounds, refused ones too
    rounds: int  # that count; with 0 there are no medians


class Child:
    """A contender that runs elsewhere; see `benchmarks.child`."""

    def __init__(self, name: str, what: str, setting: Setting, *, process: str = TUNED):
        tuned = "plain" if process == AS_IT_COMES else "tuned"
        about = [name, what, json.dumps(asdict(setting)), tuned]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", *about],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ({"OMP_NUM_THREADS": "1"} if process == ONE_THREAD else {}),
        )

    def __call__(self) -> Turn:
        """One turn."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("turn\n")
        self.process.stdin.flush()
        *use, mib = json.loads(self.process.stdout.readline())
        return Turn(Use(*use), mib)

    def close(self) -> None:
        """End it, and free its memory."""
        self.process.communicate()


def interleaved(
    turns: Mapping[str, Callable[[], Turn]], *, runs: int, ours: str
) -> dict[str, Timed]:
    """Medians of each, and ratios to ours; the first round does not count.

    A round in which other processes took more than a tenth of the processors does not count either,
    and is tried again.
    """
    good: list[dict[str, Use]] = []
    mib, foreign = dict.fromkeys(turns, 0.0), []
    for number in range(ROUNDS * runs + 1):
        found = {name: turn() for name, turn in turns.items()}
        mib = {name: turn.mib for name, turn in found.items()}
        worst = max(turn.use.foreign for turn in found.values())
        if number > 0:
            foreign.append(worst)
            if worst <= MOST_FOREIGN:
                good.append({name: turn.use for name, turn in found.items()})
        if len(good) == runs:
            break
    return {name: _timed(name, good, ours, mib[name], median(foreign)) for name in turns}


def figures(timed: Timed) -> dict[str, Any]:
    """What stands in a line: medians, or why there are none."""
    if timed.rounds == 0:
        return {"refused": f"other processes took {timed.foreign:.0%} of the processors"}
    return {
        "seconds": round(timed.seconds, 3),
        "times_ours": round(timed.ratio, 2),
        "cpu_seconds": round(timed.cpu, 3),
        "cpu_times_ours": round(timed.cpu_ratio, 2),
        "page_faults": round(timed.faults),
        "foreign": round(timed.foreign, 3),
    }


def _timed(name: str, rounds: list[dict[str, Use]], ours: str, mib: float, foreign: float) -> Timed:
    if not rounds:
        nothing = float("nan")
        return Timed(nothing, nothing, mib, nothing, nothing, nothing, foreign, 0)
    own, us = [r[name] for r in rounds], [r[ours] for r in rounds]
    return Timed(
        seconds=median([x.seconds for x in own]),
        ratio=median([a.seconds / b.seconds for a, b in zip(own, us, strict=True)]),
        mib=mib,
        cpu=median([x.cpu for x in own]),
        cpu_ratio=median([a.cpu / b.cpu for a, b in zip(own, us, strict=True)]),
        faults=median([x.faults for x in own]),
        foreign=foreign,
        rounds=len(rounds),
    )
