# SPDX-License-Identifier: Apache-2.0
"""One trial of a search on this machine: its command, its process, and what it leaves.

A trial is a run of `superb` or `pretrain` in a folder of its own. Its metric is read
from the run's result.json, how that developed from logs/version_*/metrics.csv.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavlm_lightning.files import read_json
from wavlm_lightning.locks import is_locked
from wavlm_lightning.recipes.run.curves import read_curves
from wavlm_lightning.recipes.run.folder import CONFIG, LOCK, RESULT
from wavlm_lightning.recipes.run.processes import STARTED_BY

OUTPUT = "output.log"
UNFINISHED, FINISHED, STOPPED_EARLY, FAILED = "unfinished", "finished", "stopped early", "failed"
# Words of a command that each trial has its own of: no trial writes where the user's results are.
OWN_FOLDERS = {"run.dir": "", "run.results": "results"}
PATIENCE_SECONDS = 300.0  # for a trial to save after SIGTERM


@dataclass(kw_only=True)
class Trial:
    """What was tried, and what came of it.

    Args:
        number: from 1.
        parameters: searched configuration keys and their values.
        state: unfinished, finished, stopped early or failed.
        value: the metric of the finished run; of a stopped one the best so far.
        history: the metric at each validation.
        seconds: wall time, all starts together.
        note: why it failed.
    """

    number: int
    parameters: dict[str, Any]
    state: str = UNFINISHED
    value: float | None = None
    history: list[float] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""

    def folder(self, search: Path) -> Path:
        """Where it writes, below the folder of its search."""
        return search / f"trial{self.number:03d}"

    def shown(self) -> str:
        """Its parameters as words."""
        return " ".join(f"{key}={value}" for key, value in self.parameters.items())


def trial_command(
    config: Mapping[str, Any], parameters: Mapping[str, Any], folder: Path
) -> list[str]:
    """The command of a sweep file for these parameters, as W&B's agent expands it.

    Source: wandb 0.31, wandb_agent.py, Agent._command_run. Differs from it: `${interpreter}` is
    the Python that runs this, an unknown macro is an error, and run.dir and run.results are the
    trial's.
    """
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    macros = create_sweep_command_args({"args": {k: {"value": v} for k, v in parameters.items()}})
    json_file = folder / "args.json"
    macros |= {
        "env": ["/usr/bin/env"],
        "interpreter": [sys.executable],
        "program": [config.get("program", "")],
        "args_json_file": [str(json_file)],
    }
    words: list[str] = []
    for item in create_sweep_command([str(item) for item in config["command"]]):
        macro = re.fullmatch(r"\$\{(\w+)\}", item)
        if macro is None:
            words.append(_own_folder(item, folder))
        elif not isinstance(macros.get(macro[1]), list):
            raise ValueError(f"command: {item} is no macro of W&B's; a macro is a whole item")
        else:
            words += macros[macro[1]]
    if str(json_file) in words:
        folder.mkdir(parents=True, exist_ok=True)
        json_file.write_text(macros["args_json"][0], encoding="utf-8")
    return words


def _own_folder(word: str, folder: Path) -> str:
    key = word.partition("=")[0].removeprefix("--")
    return f"--{key}={folder / OWN_FOLDERS[key]}" if key in OWN_FOLDERS else word


def command_for_people(command: list[str]) -> str:
    """A trial's command without its folders, as it is typed in the root of the repository."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    words = [str(python) if word == sys.executable else word for word in command]
    if words[0] == "/usr/bin/env":
        del words[0]
    own = tuple(f"--{key}=" for key in OWN_FOLDERS)
    return shlex.join(word for word in words if not word.startswith(own))


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """The trial's process, out of Ctrl-C's reach: the search stops it, and lets it save."""
    with (folder / OUTPUT).open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            env=os.environ | {STARTED_BY: str(os.getpid())},
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, on which a run saves and ends; SIGKILL if it does not, or at a second Ctrl-C."""
    process.terminate()
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own
            process.wait()


def run_folder(folder: Path) -> Path | None:
    """The newest run in a trial's folder; None before there is one."""
    found = sorted(
        (path.parent for path in folder.rglob(CONFIG) if not path.parent.is_symlink()),
        key=lambda path: (-len(path.parts), path.name),
    )
    return found[-1] if found else None


def wait_until_free(folder: Path, poll_seconds: float) -> None:
    """Wait for a run that outlived a killed search: it holds the lock of its folder."""
    run, told = run_folder(folder), False
    while run is not None and is_locked(run / LOCK):
        if not told:
            print(f"{folder} is still at work from before: waiting for it", flush=True)
            told = True
        time.sleep(poll_seconds)


def read_history(folder: Path, metric: str) -> list[float]:
    """The metric at each validation of the run so far.

    Raises:
        ValueError: where the run is writing this very moment.
    """
    run = run_folder(folder)
    if run is None:
        return []
    try:
        return [value for _, value in sorted(read_curves(run).get(metric, {}).items())]
    except (KeyError, TypeError) as error:  # half a line
        raise ValueError(f"{run}: {error}") from error


def read_metric(folder: Path, metric: str) -> float | None:
    """The metric in the run's result; None if the run has not finished.

    Raises:
        ValueError: if the result has no such figure.
    """
    run = run_folder(folder)
    if run is None or not (run / RESULT).is_file():
        return None
    metrics = read_json(run / RESULT)["metrics"]
    if metric not in metrics:
        raise ValueError(f"no {metric} in {run / RESULT}; there are {', '.join(metrics)}")
    return float(metrics[metric])


def last_error(folder: Path) -> str:
    """What a failed trial said last, its line `error: ...` if there is one."""
    try:
        text = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]
