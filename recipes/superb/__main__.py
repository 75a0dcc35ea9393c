# SPDX-License-Identifier: Apache-2.0
"""SUPERB on a frozen upstream: one task, or all of them.

python -m recipes.superb TASK|all UPSTREAM [--key=value ...]
"""

import sys
import time
from pathlib import Path

from downstream import load_task, task_names
from downstream.task import Sources
from downstream.upstream import load_upstream
from recipes.run.exit_status import exit_status, run_child
from recipes.run.logger_checks import check_loggers
from recipes.run.mini_model import is_missing, train_mini
from recipes.run.processes import STOPPED, Processes
from recipes.run.program import run_program
from recipes.run.signals import StopSignal
from recipes.superb.settings import read_probe_settings, stem
from recipes.superb.sources import sources_of
from wavlm_lightning.config import ConfigError


class Probing:
    """One task on one upstream, all its variants, and its result."""

    program = "recipes.superb"

    def __init__(self, argv: list[str]):
        task, upstream, words = _split(argv)
        self.task = load_task(task)
        self.settings = read_probe_settings(task, upstream, words)

    @property
    def name(self) -> str:
        """Upstream and task."""
        task = stem(self.task.name, self.settings, self.settings.seed)
        return f"{self.settings.upstream.name}/{task}"

    @property
    def starts_from(self) -> str | None:
        """The upstream."""
        return self.settings.upstream.source

    def check(self) -> None:
        """Nothing more: reading the configuration has looked at it all."""

    def check_recordings(self) -> None:
        """Build the task in all its variants."""
        where = self._sources(Processes(0, 1, 1))
        for variant in self.task.variants(where) or [""]:
            self.task(self.settings.task, where, seed=self.settings.seed, variant=variant or None)

    def _sources(self, processes: Processes) -> Sources:
        settings, corpus = self.settings, self.task.corpus
        return sources_of(
            settings.kind, settings.paths, settings.data, corpus=corpus, processes=processes
        )

    def prepare(self, processes: Processes) -> None:
        """Load the upstream and find the recordings."""
        self.upstream, digest = load_upstream(self.settings.upstream)
        self.where = self._sources(processes)
        self.settings = self.settings.with_hash(digest)

    def run(self, folder: Path, processes: Processes, *, started: float) -> None:
        """Train all heads and write the results."""
        if processes.first:
            print(self._corpus(), flush=True)
        # Lightning takes longer to import than all before: what is wrong is said by now.
        from recipes.superb.variants import train_heads

        train_heads(
            self.settings, self.upstream, self.task, self.where, folder, processes, started=started
        )

    def _corpus(self) -> str:
        settings, corpus = self.settings, self.task.corpus
        if settings.kind == "mini":
            return (
                f"corpus: the mini {corpus}, synthetic, not comparable with published scores; for "
                f"the real one say paths.{corpus}=DIR"
            )
        known = settings.published_lr.get(settings.upstream.name, settings.optim.lr)
        hint = ""
        if settings.heads.lr is None and known != settings.optim.lr:
            hint = f"; published scores of this upstream are known to want LR={known:g}"
        folder = self.where.manifest or self.where.folder(corpus)
        return f"corpus: {folder}; {settings.protocol} protocol{hint}"


def _split(argv: list[str]) -> tuple[str, str, list[str]]:
    """Task, upstream and the words behind them."""
    if len(argv) < 2 or any(word.startswith("--") for word in argv[:2]):
        raise ConfigError(f"a task and an upstream are wanted; tasks: {', '.join(task_names())}")
    if argv[0] != "all":
        load_task(argv[0])
    return argv[0], argv[1], argv[2:]


def run_all(argv: list[str]) -> int:
    """Every task in a process of its own, on to the next after a failed one, a summary last."""
    started, failed = time.perf_counter(), {}
    _, upstream, words = _split(argv)
    jobs = [Probing([task, upstream, *words]) for task in task_names()]
    if is_missing(jobs[0].starts_from):
        for job in jobs:
            check_loggers(job.settings.wandb, tensorboard=job.settings.tensorboard)
            job.check_recordings()
        train_mini()
    for task in task_names():
        print(f"=== {task}", flush=True)
        command = [sys.executable, "-m", Probing.program, task, upstream, *words]
        status = run_child(command)
        if status == STOPPED:
            raise StopSignal(f"stopped in {task}")
        if status:
            failed[task] = status
    print(
        f"\n{len(task_names()) - len(failed)} of {len(task_names())} tasks done on {upstream}, "
        f"{(time.perf_counter() - started) / 60:.1f} min"
    )
    for task, status in failed.items():
        print(f"{task}: failed with status {status}, its error is above", file=sys.stderr)
    return 1 if failed else 0


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    if argv[:1] == ["all"]:
        return exit_status(lambda: run_all(argv))
    return run_program(Probing, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
