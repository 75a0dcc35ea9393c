# SPDX-License-Identifier: Apache-2.0
"""A lock ends with its process, whatever processes that one has started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from wavlm_lightning.locks import holder, is_locked, take

HOLDER = """
import os, sys, time
from pathlib import Path
from wavlm_lightning.locks import take
lock = take(Path(sys.argv[1]))
if os.fork() == 0:  # as a loading process is
    Path(sys.argv[2]).write_text(str(os.getpid()))
    time.sleep(60)
time.sleep(60)
"""


def test_a_lock_keeps_others_out_until_it_is_given_back(tmp_path: Path) -> None:
    lock = take(tmp_path / ".lock")
    assert lock is not None
    assert is_locked(tmp_path / ".lock")
    assert take(tmp_path / ".lock") is None
    assert take(tmp_path / ".lock", shared=True) is None
    assert holder(tmp_path / ".lock").startswith(f"process {os.getpid()} on ")
    lock.close()
    assert not is_locked(tmp_path / ".lock")


def test_shared_locks_keep_out_those_that_want_it_alone(tmp_path: Path) -> None:
    first, second = take(tmp_path / "l", shared=True), take(tmp_path / "l", shared=True)
    assert first is not None
    assert second is not None
    assert not is_locked(tmp_path / "l")
    first.close()
    assert take(tmp_path / "l") is None
    second.close()
    assert take(tmp_path / "l") is not None


def test_a_killed_process_gives_its_lock_back_at_once_though_a_child_of_it_lives(
    tmp_path: Path,
) -> None:
    child = tmp_path / "child"
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / ".lock", child])
    deadline = time.monotonic() + 300
    while not (child.exists() and child.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert is_locked(tmp_path / ".lock")
    process.kill()
    process.wait()
    pid = int(child.read_text())
    os.kill(pid, 0)  # it lives
    try:
        assert not is_locked(tmp_path / ".lock")
    finally:
        os.kill(pid, signal.SIGKILL)
