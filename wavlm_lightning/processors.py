# SPDX-License-Identifier: Apache-2.0
"""How busy a machine's processors are."""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
TICKS = os.sysconf("SC_CLK_TCK")


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
