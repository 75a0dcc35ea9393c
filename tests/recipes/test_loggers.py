# SPDX-License-Identifier: Apache-2.0
"""W&B and TensorBoard may fail; a run and its CSV files may not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wavlm_lightning.config import ConfigError
from wavlm_lightning.recipes.run.curves import read_curves
from wavlm_lightning.recipes.run.logger_checks import check_loggers
from wavlm_lightning.recipes.run.loggers import build_loggers, finishing
from wavlm_lightning.recipes.run.sections import WandbSection
from wavlm_lightning.recipes.run.signals import StopSignal

ROOT = Path(__file__).parent.parent.parent
OFFLINE = WandbSection(mode="offline")


def service_of(pid: int) -> list[int]:
    """Processes of W&B's service that a process has started."""
    command = ["pgrep", "-f", f"wandb-core.* --pid {pid}( |$)"]
    found = subprocess.run(command, capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/usr/bin/pgrep").exists(), reason="needs pgrep (procps)")
def test_training_goes_on_when_the_service_of_wandb_is_killed(
    words: list[str], mfcc_labels: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "wavlm_lightning.recipes.pretrain",
            *words,
            "--wandb.mode=offline",
            f"--labels.folders=[{mfcc_labels}]",
            "--optim.total_updates=200",
        ],
        cwd=ROOT,
        # A service of the tests' own process would be used in place of one of its own.
        env={key: value for key, value in os.environ.items() if "WANDB" not in key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    logs = tmp_path / "runs" / "tiny"
    deadline = time.monotonic() + 300
    while not list(logs.glob("*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    services = service_of(process.pid)
    assert services
    for service in services:
        os.kill(service, signal.SIGKILL)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-2000:]
    assert error.count("warning: W&B failed") == 1
    assert "Traceback" not in error
    assert sorted(read_curves(logs / "latest")["train/loss"]) == list(range(200))


@pytest.mark.parametrize(
    ("error", "status"), [(None, 0), (StopSignal("stopped"), 143), (ValueError("no"), 1)]
)
def test_wandb_is_told_how_a_run_ended(
    error: Exception | None, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    told, finish = [], wandb.finish

    def remember(exit_code: int | None = None, **rest: Any) -> None:
        told.append(exit_code)
        finish(exit_code=exit_code, **rest)

    monkeypatch.setattr(wandb, "finish", remember)
    folder = tmp_path / "run"
    folder.mkdir()
    loggers = build_loggers(
        folder, root=str(tmp_path), wandb=OFFLINE, tensorboard=False, values={"a": 1}
    )

    def work() -> None:
        with finishing(loggers):
            for logger in loggers:
                logger.log_metrics({"train/loss": 1.0}, 0)
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    assert told == [status]


def test_a_logger_that_fails_is_dropped_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    csv, wandb = build_loggers(
        folder, root=str(tmp_path), wandb=OFFLINE, tensorboard=False, values={}
    )

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("wandb.init", fail)
    for step in range(3):
        for logger in (csv, wandb):
            logger.log_metrics({"train/loss": float(step)}, step)
    csv.save()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("warning: W&B failed (No space left on device)")
    assert read_curves(folder)["train/loss"] == {0: 0.0, 1: 1.0, 2: 2.0}


def test_what_loggers_lack_is_said_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "wavlm_lightning.recipes.run.logger_checks.has_wandb_account", lambda: False
    )
    with pytest.raises(ConfigError, match=r"wandb\.mode=online needs an account"):
        check_loggers(WandbSection(mode="online"), tensorboard=False)
    check_loggers(OFFLINE, tensorboard=False)
