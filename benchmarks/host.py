# SPDX-License-Identifier: Apache-2.0
"""The machine under a measurement: what it is, and who else uses it meanwhile."""

import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wavlm_lightning.runtime import busy_seconds

CPUINFO = Path("/proc/cpuinfo")
# Instruction sets that decide which kernels torch takes, and their common names.
FLAGS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bfloat16", "amx_bf16": "AMX"}


class Use(NamedTuple):
    """What a stretch of work took of the machine."""

    seconds: float
    cpu: float  # seconds of all threads of this process, and of those that it started and awaited
    faults: int  # pages that the system had to hand out
    foreign: float  # share of all processors that others took


class Meter:
    """Begins with its making; `read` says what was used since."""

    def __init__(self) -> None:
        self._before = self._now()

    def _now(self) -> tuple[float, float, int, float]:
        cpu, faults = 0.0, 0
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            used = resource.getrusage(who)
            cpu, faults = cpu + used.ru_utime + used.ru_stime, faults + used.ru_minflt
        return time.perf_counter(), cpu, faults, busy_seconds()

    def read(self) -> Use:
        """Everything since the start."""
        seconds, cpu, faults, busy = (b - a for a, b in zip(self._before, self._now(), strict=True))
        others = max(0.0, busy - cpu) / (seconds * (os.cpu_count() or 1))
        return Use(seconds, cpu, int(faults), others)


def measured(work: Callable[[], Any]) -> Use:
    """What one run takes; a GPU's queue is emptied."""
    meter = Meter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return meter.read()


def processor() -> str:
    """Its name, cores, and what torch's kernels use of it."""
    known: dict[str, str] = {}
    if CPUINFO.is_file():
        for line in CPUINFO.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            known.setdefault(key.strip(), value.strip())
    name = known.get("model name") or platform.processor() or platform.machine()
    has = [text for flag, text in FLAGS.items() if flag in known.get("flags", "").split()]
    family = f", family {known['cpu family']}" if "cpu family" in known else ""
    about = f" ({', '.join(has)}{family})" if has else ""
    return f"{name}{about}, {os.cpu_count()} cores"
