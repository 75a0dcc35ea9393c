# SPDX-License-Identifier: Apache-2.0
"""Search a W&B sweep file on this machine, without account and server.

What to try next and what to stop early is decided by W&B's own engine, the package `sweeps`: grid,
random and Bayesian search, Hyperband. Trials run one after another. The state stands in sweep.json:
the same command again goes on with the trial that was cut off, tries failed ones once more, and
adds trials if more are wanted.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wavlm_lightning.config import ConfigError
from wavlm_lightning.files import read_json, write_text
from wavlm_lightning.recipes.run.folder import RESULT, open_run, point_to
from wavlm_lightning.recipes.run.signals import STOPPED, stop_signals
from wavlm_lightning.recipes.sweep.trials import (
    FAILED,
    FINISHED,
    OUTPUT,
    OWN_FOLDERS,
    STOPPED_EARLY,
    UNFINISHED,
    Trial,
    command_for_people,
    last_error,
    read_history,
    read_metric,
    run_folder,
    start,
    stop,
    trial_command,
    wait_until_free,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic's, about a spelling within sweeps
    # next_run would import this between our seeding and its draw, and imports draw as well.
    import sweeps.bayes_search  # noqa: F401
    from sweeps import (
        RunState,
        SweepConfig,
        SweepRun,
        next_run,
        next_runs,
        schema_violations_from_proposed_config,
        stop_runs,
    )

STATE = "sweep.json"
DEFAULT_COUNT = 10  # of random and Bayesian search, which have no end of their own
POLL_SECONDS = 2.0
# A stopped trial counts with its best figure; `sweeps` takes a killed one for as bad as the worst.
ENGINE_STATES = {
    UNFINISHED: RunState.running,
    FINISHED: RunState.finished,
    STOPPED_EARLY: RunState.finished,
    FAILED: RunState.failed,
}


def search_here(
    config: dict[str, Any],
    parent: Path,
    *,
    count: int | None = None,
    seed: int = 0,
    resume: bool = True,
    poll_seconds: float = POLL_SECONDS,
) -> int:
    """Run the trials that are missing and print the table.

    Args:
        config: of a sweep file.
        parent: folder of its searches; go on with the newest one of the same config and seed.
        count: trials in all, those of earlier starts included; by default the whole grid, or 10.
        seed: of what random and Bayesian search draw.
        resume: False begins a new search.
        poll_seconds: from one look at a running trial to the next.

    Returns:
        Exit status: 0, 1 if no trial finished, 143 if it was stopped.

    Raises:
        ConfigError: if it is no config of a sweep.
    """
    check_config(config)
    opened = open_run(parent, {"search": config, "seed": seed}, resume=resume)
    search = Search(SweepConfig(config), opened.path, seed, poll_seconds)
    go_on = f"continuing {opened.path} (a new search instead: run.resume=false)"
    print(go_on if search.trials else f"new search {opened.path}", flush=True)
    before = {number: signal.signal(number, _interrupt) for number in stop_signals()}
    try:
        search.run(count)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from there", file=sys.stderr)
        return STOPPED
    finally:
        opened.lock.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    print(search.table(), flush=True)
    return 0 if search.best() else 1


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def check_config(config: dict[str, Any]) -> None:
    """Refuse what is no sweep, or none that can be searched here.

    Raises:
        ConfigError: naming what is wrong.
    """
    wrong = list(schema_violations_from_proposed_config(config))
    for key, why in (("metric", "says what is better"), ("command", "is what a trial runs")):
        if key not in config:
            wrong.append(f"{key} is missing: it {why}")
    if not any(str(item).startswith("--run.dir=") for item in config.get("command", [])):
        wrong.append("command has no --run.dir=DIR, in whose place a trial gets its own folder")
    for key in OWN_FOLDERS:
        if key in config.get("parameters", {}):
            wrong.append(f"{key} cannot be searched: each trial has its own")
    if wrong:
        raise ConfigError("no sweep to search here: " + "; ".join(wrong))


@dataclass
class Search:
    """A search under way; `trials` are all that were begun, in order."""

    config: SweepConfig
    folder: Path
    seed: int
    poll_seconds: float

    def __post_init__(self) -> None:
        path, self.trials = self.folder / STATE, list[Trial]()
        if path.is_file():
            content = read_json(path)
            self.trials = [Trial(**values) for values in content["trials"]]
        self.metric: str = self.config["metric"]["name"]
        self.maximize = self.config["metric"]["goal"] == "maximize"

    def run(self, count: int | None) -> None:
        """Finish what was begun, then new trials up to `count`."""
        total = self._planned(count)
        for trial in self.trials:
            if trial.state in (UNFINISHED, FAILED):
                self._try(trial, total)
        while len(self.trials) < total:
            parameters = self.draw()
            if parameters is None:
                break
            self.trials.append(Trial(number=len(self.trials) + 1, parameters=parameters))
            self._try(self.trials[-1], total)

    def _planned(self, count: int | None) -> int:
        if self.config["method"] != "grid":
            return count or DEFAULT_COUNT
        left = next_runs(self.config, self._runs(), n=count or 10_000)
        whole = len(self.trials) + sum(run is not None for run in left)
        return min(whole, count or whole)

    def draw(self) -> dict[str, Any] | None:
        """Parameters of the next trial; None at the end of a grid.

        `sweeps` draws from the global generators of Python and numpy. They are seeded here from
        the seed and the trial's number, so that a search is the same whether it was cut off or not.
        """
        number = len(self.trials) + 1
        random.seed(f"{self.seed} {number}")
        np.random.seed([self.seed, number])  # noqa: NPY002
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # scikit-learn's, about a Gaussian process on few points
            run = next_run(self.config, self._runs())
        if run is None:
            return None
        values = {key: entry["value"] for key, entry in run.config.items()}
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}

    def _runs(self) -> list[SweepRun]:
        """The trials as the engine knows them; by alias, which pydantic 2 alone understands."""
        return [
            SweepRun(
                name=str(trial.number),
                state=ENGINE_STATES[trial.state],
                config={key: {"value": value} for key, value in trial.parameters.items()},
                summaryMetrics={self.metric: trial.value} if trial.state == FINISHED else {},
                sampledHistory=[{self.metric: value} for value in trial.history],
            )
            for trial in self.trials
        ]

    def _try(self, trial: Trial, total: int) -> None:
        """Run a trial to its end, or go on with it."""
        folder = trial.folder(self.folder)
        folder.mkdir(exist_ok=True)
        trial.state, trial.value, trial.note = UNFINISHED, None, ""
        self._save()
        print(f"trial {trial.number} of {total}: {trial.shown()}; {folder / OUTPUT}", flush=True)
        started, stopped = time.monotonic(), False
        wait_until_free(folder, self.poll_seconds)
        run = run_folder(folder)
        try:
            if run is None or not (run / RESULT).is_file():
                process = start(trial_command(self.config, trial.parameters, folder), folder)
                stopped = self._watch(trial, process)
            self._close(trial, folder, stopped)
        finally:
            trial.seconds = round(trial.seconds + time.monotonic() - started, 1)
            self._save()
        print(f"trial {trial.number}: {self._outcome(trial)}, {trial.seconds:.0f} s", flush=True)

    def _watch(self, trial: Trial, process: subprocess.Popen[bytes]) -> bool:
        """Wait for the process; True if it was stopped early."""
        try:
            while process.poll() is None:
                try:
                    process.wait(self.poll_seconds)
                except subprocess.TimeoutExpired:
                    if self._hopeless(trial):
                        stop(process)
                        return True
        except KeyboardInterrupt:
            print(f"stopping trial {trial.number}, which saves first", file=sys.stderr, flush=True)
            stop(process)
            raise
        return False

    def _hopeless(self, trial: Trial) -> bool:
        """True if Hyperband would not go on with a running trial."""
        if "early_terminate" not in self.config:
            return False
        try:
            trial.history = read_history(trial.folder(self.folder), self.metric)
        except ValueError:  # it is writing: there is another look soon
            return False
        return any(run.name == str(trial.number) for run in stop_runs(self.config, self._runs()))

    def _close(self, trial: Trial, folder: Path, stopped: bool) -> None:
        try:
            trial.history = read_history(folder, self.metric)
            trial.value = read_metric(folder, self.metric)
        except ValueError as error:
            trial.state, trial.note = FAILED, str(error)
            return
        if trial.value is not None:
            trial.state = FINISHED
        elif stopped:
            trial.state = STOPPED_EARLY
            trial.value = (max if self.maximize else min)(trial.history)
        else:
            trial.state, trial.note = FAILED, last_error(folder)

    def _save(self) -> None:
        content = {"metric": self.metric, "trials": [asdict(trial) for trial in self.trials]}
        write_text(self.folder / STATE, json.dumps(content, indent=2) + "\n")
        point_to(self.folder)

    def best(self) -> Trial | None:
        """The best of the finished trials, the earlier of two that are equal."""
        finished = [t for t in self.trials if t.state == FINISHED and t.value is not None]
        sign = -1 if self.maximize else 1
        return min(finished, key=lambda t: sign * (t.value or 0.0), default=None)

    def _outcome(self, trial: Trial) -> str:
        value = "" if trial.value is None else f", {self.metric} {trial.value:.4g}"
        return trial.state + value + (f": {trial.note}" if trial.note else "")

    def table(self) -> str:
        """All trials, the best one marked, and the command that runs it again."""
        best = self.best()
        keys = list(self.trials[0].parameters) if self.trials else []
        rows = [["trial", *keys, self.metric, "state"]]
        for trial in self.trials:
            values = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in _values(trial, keys)]
            figure = "-" if trial.value is None else f"{trial.value:.4g}"
            state = "finished, best" if trial is best else trial.state
            note = f": {trial.note}" if trial.note else ""
            rows.append([str(trial.number), *values, figure, state + note])
        widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]] + [0]
        lines = [
            "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows
        ]
        if best is None:
            return "\n".join(["", *lines, f"no trial finished; all about it in {self.folder}"])
        folder = best.folder(self.folder)
        command = command_for_people(trial_command(self.config, best.parameters, folder))
        run = run_folder(folder) or folder
        return "\n".join(
            ["", *lines, f"best run  {os.path.relpath(run.resolve())}", f"again     {command}"]
        )


def _values(trial: Trial, keys: list[str]) -> list[Any]:
    return [trial.parameters.get(key, "") for key in keys]
