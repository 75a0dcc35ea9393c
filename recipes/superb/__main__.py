# SPDX-License-Identifier: Apache-2.0
"""SUPERB on a frozen upstream: one task, or all of them.

wavlm superb TASK|all UPSTREAM [--key=value ...]
"""

import sys
import time

from wavlm_lightning.downstream import task_names
from wavlm_lightning.recipes.run.exit_status import exit_status, run_child
from wavlm_lightning.recipes.run.logger_checks import check_loggers
from wavlm_lightning.recipes.run.mini_model import is_missing, train_mini
from wavlm_lightning.recipes.run.processes import STOPPED
from wavlm_lightning.recipes.run.program import run_program
from wavlm_lightning.recipes.run.signals import StopSignal
from wavlm_lightning.recipes.superb.job import PROGRAM, task_job
from wavlm_lightning.recipes.superb.settings import keys_of, task_and_upstream


def run_all(argv: list[str]) -> int:
    """Every task in a process of its own, on to the next after a failed one, a summary last."""
    started, failed = time.perf_counter(), {}
    _, upstream, overrides = task_and_upstream(argv)
    jobs = [task_job([task, upstream, *overrides]) for task in task_names()]
    if is_missing(jobs[0].starts_from):
        for job in jobs:
            check_loggers(job.settings.wandb, tensorboard=job.settings.tensorboard)
            job.check_recordings()
        train_mini()
    for task in task_names():
        print(f"=== {task}", flush=True)
        command = [sys.executable, "-m", PROGRAM, task, upstream, *overrides]
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
    return run_program(task_job, argv, about=__doc__ or "", keys=keys_of)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
