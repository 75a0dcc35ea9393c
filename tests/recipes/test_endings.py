# SPDX-License-Identifier: Apache-2.0
"""How programs end: one line for the user, a status for a shell, children that are waited for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wavlm_lightning.recipes.run.exit_status import exit_status, run_child
from wavlm_lightning.recipes.run.signals import StopSignal
from wavlm_lightning.training import NonFiniteLossError

ROOT = Path(__file__).parent.parent.parent
CHILD = """
import pathlib, signal, sys, time
from wavlm_lightning.recipes.run.exit_status import exit_status
from wavlm_lightning.recipes.run.signals import StopSignal

def work():
    def stop(*_):
        raise StopSignal("saved")
    signal.signal(signal.SIGTERM, stop)
    pathlib.Path(sys.argv[1]).write_text("ready")
    time.sleep(600)
    return 0

sys.exit(exit_status(work))
"""
PARENT = """
import sys
from wavlm_lightning.recipes.run.exit_status import run_child
status = run_child([sys.executable, "-c", sys.argv[2], sys.argv[1]])
print("child ended with", status)
"""


@pytest.mark.parametrize(
    "error", [ValueError("a\nb"), FileNotFoundError("a b"), NonFiniteLossError("a b")]
)
def test_what_a_person_can_mend_is_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert exit_status(work) == 1
    assert capsys.readouterr().err == "error: a b\n"


def test_what_only_we_can_mend_keeps_its_way_through_the_code() -> None:
    def work() -> int:
        raise KeyError("a")

    with pytest.raises(KeyError):
        exit_status(work)


def test_a_stopped_run_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise StopSignal("stopped after update 3")

    assert exit_status(work) == 143
    assert capsys.readouterr().err == (
        "stopped after update 3; the same command goes on from there\n"
    )


def test_sigterm_reaches_the_child_and_its_end_is_waited_for(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(ready), CHILD],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not ready.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(parent.pid, signal.SIGTERM)
    out, err = parent.communicate(timeout=300)
    assert out == "child ended with 143\n"
    assert err == "saved; the same command goes on from there\n"


@pytest.mark.parametrize("program", ["config", "report.fidelity"])
def test_a_reader_that_has_seen_enough_ends_what_only_prints(program: str) -> None:
    command = [sys.executable, "-m", f"wavlm_lightning.recipes.{program}"]
    if program == "config":
        command.append("--config=configs/pretrain/mini.yaml")
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()  # before a line is printed
    assert writer.stderr.read() == b""
    assert writer.wait(timeout=300) in (-signal.SIGPIPE, 0)


def test_status_of_a_child_is_its_own() -> None:
    assert run_child([sys.executable, "-c", "raise SystemExit(7)"]) == 7
