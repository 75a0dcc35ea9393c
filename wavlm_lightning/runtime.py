# SPDX-License-Identifier: Apache-2.0
"""The machine that a program runs on: number formats, threads, load, devices, signals."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

STAT = Path("/proc/stat")
TICKS = os.sysconf("SC_CLK_TCK")
BatchT = TypeVar("BatchT", bound=NamedTuple)
# Read by Python to size and to count things: on a device, each reading would wait for all its work.
ON_THE_HOST = ("lengths",)


def computes_bfloat16(device: str) -> bool:
    """True if this processor ("cpu") or GPU ("cuda") multiplies matrices in bfloat16 itself."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Format of a product with x (...): autocast's, or x's own."""
    device = x.device.type
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run the block with so many threads of torch; 0 leaves them as they are."""
    before = torch.get_num_threads()
    if count in (0, before):
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def busy_seconds() -> float:
    """Seconds that all processors have worked since the machine started; 0 where Linux is not."""
    if not STAT.is_file():
        return 0.0
    # user, nice, system, idle, iowait, irq, softirq, steal (proc(5)); guests are within user.
    ticks = [int(x) for x in STAT.read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / TICKS


def busy_share(seconds: float) -> float:
    """Share of all processors that works while this process sleeps for so long."""
    start, before = time.perf_counter(), busy_seconds()
    time.sleep(seconds)
    return (busy_seconds() - before) / (time.perf_counter() - start) / (os.cpu_count() or 1)


def to_device(batch: BatchT, device: torch.device) -> BatchT:
    """The batch with its tensors on the device, but for those that the host reads."""
    moved: dict[str, Any] = {
        name: value.to(device, non_blocking=True)
        for name, value in batch._asdict().items()
        if isinstance(value, Tensor) and name not in ON_THE_HOST
    }
    return batch._replace(**moved)


def leave_signals(_: int) -> None:
    """Ctrl-C and the end of a terminal reach loading processes too; the training one decides."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
