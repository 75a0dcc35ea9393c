# SPDX-License-Identifier: Apache-2.0
"""Locks on files that end with the process that holds them, however it ends."""

import fcntl
import json
import os
import socket
import weakref
from pathlib import Path
from typing import Any

_held: "weakref.WeakSet[Lock]" = weakref.WeakSet()


class Lock:
    """A lock on a file, held until `close` or the end of this process.

    Processes forked from this one (loading processes) do not hold it: else it would outlive a
    killed run for as long as they do.
    """

    def __init__(self, path: Path, file: Any):
        self.path, self._file = path, file
        _held.add(self)

    def close(self) -> None:
        """Give it back; also done when nothing refers to it any more."""
        self._file.close()


def take(path: Path, *, shared: bool = False, wait: bool = False) -> Lock | None:
    """Lock a file, which is made if it is not there; None if another holder is in the way.

    Args:
        path: The file.
        shared: Several may hold it at once, as long as nobody holds it alone.
        wait: Wait until it is free.
    """
    # Opened without truncation: the holder's name stays readable for who waits.
    file = path.open("r+b" if path.exists() else "w+b", buffering=0)
    try:
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    if not shared:
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
    return Lock(path, file)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock alone."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def holder(path: Path) -> str:
    """Who holds it, for messages: "process 123 on host a"."""
    try:
        about = json.loads(path.read_text())
        return f"process {about['pid']} on {about['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _forget() -> None:
    for lock in list(_held):
        lock.close()


# A lock belongs to an open file, which a forked loading process would keep open.
os.register_at_fork(after_in_child=_forget)
