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
from wavlm_lightning.recipes.pretrain.__main__ import main as pretrain
from wavlm_lightning.recipes.run import artifacts
from wavlm_lightning.recipes.run.callbacks import KeepBest
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


class Run:
    """What our code asks of W&B's run."""

    def __init__(self, offline: bool = False):
        self.offline, self.used, self.logged, self.defined = offline, [], [], []

    def define_metric(self, name: str, **how: Any) -> None:
        self.defined.append((name, how))

    def use_artifact(self, name: str) -> None:
        if "unknown" in name:
            raise ValueError("no such artifact")
        self.used.append(name)

    def log_artifact(self, artifact: Any, aliases: list[str]) -> None:
        self.logged.append((artifact, aliases))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Stands in for a run on the server."""
    run = Run()
    for name in ("keep_best_in_summary", "upload_checkpoints", "use_checkpoints"):
        assert hasattr(artifacts, name)
    monkeypatch.setattr(artifacts, "with_wandb", lambda loggers, action: action(run))
    return run


def test_the_best_checkpoints_are_one_artifact_with_where_it_came_from(
    seen: Run, tmp_path: Path
) -> None:
    teacher, student = tmp_path / "mini" / "1" / "iteration1", tmp_path / "mini" / "1"
    kept = []
    for folder in (teacher, student):
        keep = KeepBest(folder / "checkpoints" / "best.ckpt", monitor="dev/loss", mode="min")
        keep.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        keep.checkpoint.write_bytes(b"weights of " + folder.name.encode())
        keep.best = {"value": 1.5, "update": 3.0}
        kept.append(keep)
    (student / "config.yaml").write_text("{}")
    artifacts.keep_best_in_summary([], kept[1:])
    assert seen.defined[0][0] == "dev/loss"
    assert seen.defined[0][1]["summary"] == "min"
    artifacts.upload_checkpoints([], teacher, kept[:1], {"updates": 4})
    ((artifact, aliases),) = seen.logged
    assert (artifact.name, aliases) == ("mini-1-iteration1", ["best"])
    assert list(artifact.manifest.entries) == ["checkpoints/best.ckpt"]
    assert artifact.metadata == {"updates": 4, "best dev/loss": 1.5}
    unknown = tmp_path / "unknown" / "2" / "checkpoints" / "last.ckpt"
    artifacts.use_checkpoints([], [kept[0].checkpoint, unknown, kept[1].checkpoint])
    assert seen.used == ["mini-1-iteration1:latest", "mini-1:latest"]
    seen.offline, seen.used = True, []
    artifacts.use_checkpoints([], [kept[0].checkpoint])
    assert seen.used == []


def test_wandb_gets_what_its_users_sort_runs_by(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    begun, logged, init = [], [], wandb.init

    def remember(**options: Any) -> Any:
        begun.append(options)
        run = init(**options)
        log, log_artifact = run.log, run.log_artifact
        monkeypatch.setattr(run, "log", lambda row, **o: logged.append(set(row)) or log(row, **o))
        monkeypatch.setattr(
            run, "log_artifact", lambda a, **o: logged.append({a.name}) or log_artifact(a, **o)
        )
        return run

    monkeypatch.setattr("wandb.init", remember)
    said = ["entity=us", "tags=[a, b]", "notes=a try", "mode=offline", "project=p"]
    assert pretrain([*words, *(f"--wandb.{word}" for word in said)]) == 0
    (run,) = tmp_path.glob("runs/tiny/2*")
    assert [o["group"] for o in begun] == [f"tiny/{run.name}"] * 2
    assert [o["job_type"] for o in begun] == ["iteration1", "training"]
    assert [(o["entity"], o["tags"], o["notes"]) for o in begun] == [
        ("us", ["a", "b"], "a try")
    ] * 2
    keys = set().union(*logged)
    assert {f"tiny-{run.name}-iteration1", f"tiny-{run.name}"} <= keys
    assert {"mixes", "mask_and_labels", "dev/codes_predicted"} <= keys
    for folder in (run, run / "iteration1"):
        assert (folder / "mixes.png").stat().st_size > 10_000
