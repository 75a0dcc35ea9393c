# SPDX-License-Identifier: Apache-2.0
"""How a program ends: its exit status, and one line for what a person can mend."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from safetensors import SafetensorError

from recipes.callbacks import StopSignal
from recipes.processes import STOPPED
from wavlm_lightning.config import one_line
from wavlm_lightning.errors import NonFiniteLossError

# What a person can mend: shown as one line, without the way through our code.
FOR_PEOPLE = (
    ValueError,
    OSError,
    ModuleNotFoundError,
    NonFiniteLossError,
    MisconfigurationException,
    SafetensorError,
    torch.OutOfMemoryError,
)


def exit_status(work: Callable[[], int]) -> int:
    """What `work` returns; 1 after an error that the last line explains, 143 if it was stopped."""
    try:
        return work()
    except (StopSignal, KeyboardInterrupt) as stop:
        if os.environ.get("RANK", "0") == "0":
            text = str(stop) or "stopped"
            print(f"{text}; the same command goes on from there", file=sys.stderr)
        return STOPPED
    except FOR_PEOPLE as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1


def run_child(command: list[str]) -> int:
    """Run a command to its end and return its exit status.

    Told to stop, wait until the child has saved: SIGTERM is passed on, Ctrl-C reaches it by itself.
    """
    process = subprocess.Popen(command)
    handlers = {
        signal.SIGTERM: lambda *_: process.terminate(),
        signal.SIGINT: lambda *_: None,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
