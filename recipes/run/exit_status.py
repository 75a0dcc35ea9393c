# SPDX-License-Identifier: Apache-2.0
"""Exit status of a program, and one line for an error that its user can fix."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

import torch
from safetensors import SafetensorError

from wavlm_lightning.config import one_line
from wavlm_lightning.recipes.run.processes import STARTED_BY, end_with_starter
from wavlm_lightning.recipes.run.signals import STOPPED, StopSignal, stop_signals
from wavlm_lightning.training import NonFiniteLossError

# What a user can fix: shown as one line, without the trace through our code.
USER_ERRORS = (
    ValueError,
    OSError,
    ModuleNotFoundError,
    NonFiniteLossError,
    SafetensorError,
    torch.OutOfMemoryError,
)


def exit_status(work: Callable[[], int]) -> int:
    """What `work` returns; 1 after an error that the last line explains, 143 if it was stopped."""
    end_with_starter()
    try:
        return work()
    except (StopSignal, KeyboardInterrupt) as stop:
        if os.environ.get("RANK", "0") == "0":
            text = str(stop) or "stopped"
            print(f"{text}; the same command goes on from there", file=sys.stderr)
        return STOPPED
    except USER_ERRORS as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except Exception as error:
        if _is_misconfiguration(error):
            print(f"error: {one_line(error)}", file=sys.stderr)
            return 1
        if not _lost_contact(error):
            raise
        rank = os.environ["RANK"]
        print(f"process {rank} lost contact with the others, and ends", file=sys.stderr)
        return 1


def end_with_reader() -> None:
    """End a program that only prints without a word when its reader is gone, as `head` is."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _is_misconfiguration(error: Exception) -> bool:
    """Whether it is Lightning's; that takes seconds to import, and may not be yet."""
    lightning = sys.modules.get("lightning.fabric.utilities.exceptions")
    return lightning is not None and isinstance(error, lightning.MisconfigurationException)


def _lost_contact(error: Exception) -> bool:
    """Whether it is what torch.distributed says when another process is gone."""
    if not isinstance(error, RuntimeError) or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False
    known = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL")
    return isinstance(error, torch.distributed.DistError) or any(k in str(error) for k in known)


def run_child(command: list[str]) -> int:
    """Run a command to its end and return its exit status.

    Told to stop, wait until the child has saved: SIGTERM is passed on; Ctrl-C and the end of a
    terminal reach it by themselves. If this process is killed, the child saves and ends too.
    """
    process = subprocess.Popen(command, env=os.environ | {STARTED_BY: str(os.getpid())})

    def handle(number: int, _: FrameType | None) -> None:
        if number == signal.SIGTERM:
            process.terminate()

    before = {number: signal.signal(number, handle) for number in stop_signals()}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
