# SPDX-License-Identifier: Apache-2.0
"""SUPERB on a frozen upstream: one task, or all of them.

python -m recipes.superb TASK|all UPSTREAM [--key=value ...]
"""

import sys
import time
from pathlib import Path
from typing import Any

from downstream import load_task, task_names
from downstream.task import Sources, Task
from downstream.upstream import load_upstream
from recipes.run.devices import accelerator, set_tf32
from recipes.run.exit_status import exit_status, run_child
from recipes.run.folder import running
from recipes.run.logger_checks import check_loggers
from recipes.run.mini_model import is_missing, train_mini
from recipes.run.processes import STOPPED, Processes, join, start_all, wanted_devices
from recipes.run.signals import StopSignal
from recipes.superb.settings import ProbeSettings, read_probe_settings, stem
from recipes.superb.sources import sources_of
from wavlm_lightning.config import ConfigError


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return exit_status(lambda: _main(argv))


def _main(argv: list[str]) -> int:
    task, upstream, words = _read(argv)
    names = task_names() if task == "all" else [task]
    settings = {name: read_probe_settings(name, upstream, words) for name in names}
    if is_missing(settings[names[0]].upstream.source):
        for name in names:
            _check(name, settings[name])
        train_mini()
    if task == "all":
        return run_all(upstream, words)
    return run_one(settings[task], [task, upstream, *words])


def _read(argv: list[str]) -> tuple[str, str, list[str]]:
    if len(argv) < 2 or any(word.startswith("--") for word in argv[:2]):
        raise ConfigError(f"a task and an upstream are wanted; tasks: {', '.join(task_names())}")
    if argv[0] != "all":
        load_task(argv[0])
    return argv[0], argv[1], argv[2:]


def run_all(upstream: str, words: list[str]) -> int:
    """Every task in a process of its own, on to the next after a failed one, a summary last."""
    started, failed = time.perf_counter(), {}
    for task in task_names():
        print(f"=== {task}", flush=True)
        command = [sys.executable, "-m", "recipes.superb", task, upstream, *words]
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


def _check(name: str, settings: ProbeSettings) -> None:
    """Find what is wrong with the task's recordings before hours are spent on its upstream."""
    check_loggers(settings.wandb, tensorboard=settings.tensorboard)
    task, alone = load_task(name), Processes(0, 1, 1)
    where = sources_of(
        settings.kind,
        settings.paths,
        settings.data,
        corpus=task.corpus,
        processes=alone,
    )
    for variant in task.variants(where) or [""]:
        task(settings.task, where, seed=settings.seed, variant=variant or None)


def run_one(settings: ProbeSettings, argv: list[str]) -> int:
    """One task, all its variants, and its result.

    Args:
        settings: of the task.
        argv: the command line that they were read from, for further processes.
    """
    started, name = time.perf_counter(), argv[0]
    check_loggers(settings.wandb, tensorboard=settings.tensorboard)
    count = wanted_devices(
        settings.trainer["devices"], accelerator=accelerator(settings.trainer["accelerator"])
    )
    set_tf32(settings.trainer)
    status = start_all("recipes.superb", argv, count=count)
    if status is not None:
        return status
    processes = join()
    frozen, digest = load_upstream(settings.upstream)
    task = load_task(name)
    settings.values["upstream"]["sha256"] = digest
    where = sources_of(
        settings.kind,
        settings.paths,
        settings.data,
        corpus=task.corpus,
        processes=processes,
    )
    parent = Path(settings.run.dir) / settings.upstream.name / stem(name, settings, settings.seed)
    about, resume = _corpus(task, settings, where), settings.run.resume
    with running(parent, settings.values, resume=resume, processes=processes) as folder:
        if processes.first:
            print(about, flush=True)
        # Lightning takes longer to import than all before: what is wrong is said by now.
        from recipes.superb.variants import train_heads

        train_heads(settings, frozen, task, where, folder, processes, started=started)
    return 0


def _corpus(task: type[Task[Any]], settings: ProbeSettings, where: Sources) -> str:
    if settings.kind == "mini":
        return (
            f"corpus: the mini {task.corpus}, synthetic, not comparable with published scores; for "
            f"the real one say paths.{task.corpus}=DIR"
        )
    known = settings.published_lr.get(settings.upstream.name, settings.optim.lr)
    hint = ""
    if settings.heads.lr is None and known != settings.optim.lr:
        hint = f"; published scores of this upstream are known to want LR={known:g}"
    folder = where.manifest or where.folder(task.corpus)
    return f"corpus: {folder}; {settings.protocol} protocol{hint}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
