# SPDX-License-Identifier: Apache-2.0
"""Signals that end a run once it has saved."""

import signal

STOPPED = 143  # exit status after a signal, as shells have it


class StopSignal(Exception):
    """Training was asked to stop, and its checkpoint is written."""


def stop_signals() -> list[signal.Signals]:
    """Signals that end a run once it has saved; SIGHUP unless nohup has it ignored."""
    wanted = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    return [number for number in wanted if signal.getsignal(number) != signal.SIG_IGN]
