# SPDX-License-Identifier: Apache-2.0
"""No process outlives the one that started it, and a lost one is named."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "wavlm_lightning.recipes.pretrain", *words, "--trainer.devices=2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [d for child in found for d in descendants(child)]


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def training(words: list[str], mfcc_labels: Path, tmp_path: Path) -> subprocess.Popen[str]:
    """Two processes that train, with loading processes of their own."""
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc")
    process = start(
        [
            *words,
            f"--labels.folders=[{mfcc_labels}]",
            "--optim.total_updates=100000",
            "--data.num_workers=1",
        ]
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "runs" / "tiny" / "latest" / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.1)
    return process


def test_training_processes_end_with_their_killed_launcher_and_save(
    training: subprocess.Popen[str], tmp_path: Path
) -> None:
    family = descendants(training.pid)
    assert len(family) >= 4  # two that train, and what loads for them
    checkpoint = tmp_path / "runs" / "tiny" / "latest" / "checkpoints" / "last.ckpt"
    before = checkpoint.stat().st_mtime_ns
    training.kill()
    training.wait()
    deadline = time.monotonic() + 300
    while any(map(alive, family)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, family))
    assert checkpoint.stat().st_mtime_ns > before


def test_a_lost_process_is_named_in_one_line(training: subprocess.Popen[str]) -> None:
    ranks = [p for p in children(training.pid) if b"RANK=1\0" in environment(p)]
    os.kill(ranks[0], signal.SIGKILL)
    _, error = training.communicate(timeout=300)
    assert training.returncode == 1
    assert "error: process 1 was killed (SIGKILL" in error
    assert "the same command goes on from the last checkpoint" in error
    assert "Traceback" not in error


def test_the_end_of_a_terminal_saves_as_sigterm_does(training: subprocess.Popen[str]) -> None:
    os.killpg(training.pid, signal.SIGHUP)
    _, error = training.communicate(timeout=300)
    assert training.returncode == 143, error[-2000:]
    assert "the same command goes on from there" in error
    assert "Traceback" not in error


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()
