# SPDX-License-Identifier: Apache-2.0
"""Train WavLM: recordings, labels, one or more iterations, and a table of what came out.

python -m recipes.pretrain --config=configs/pretrain/mini.yaml [--key=value ...]
"""

import sys
import time
from pathlib import Path

from recipes.pretrain.recordings import check_roots
from recipes.pretrain.settings import check_chain, read_settings, teacher_settings
from recipes.run.devices import accelerator, set_tf32
from recipes.run.exit_status import exit_status
from recipes.run.folder import running
from recipes.run.logger_checks import check_loggers
from recipes.run.processes import join, start_all, wanted_devices


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return exit_status(lambda: _main(argv))


def _main(argv: list[str]) -> int:
    started = time.perf_counter()
    settings = read_settings(argv)
    chain = [teacher_settings(argv, settings, i) for i in range(len(settings.teachers))]
    if settings.labels.folders or settings.labels.teacher or settings.init:
        chain = []  # what they would have made is there
    chain.append(settings)
    check_chain(chain)
    for number, stage in enumerate(chain, start=1):
        check_roots(stage, of="" if stage is settings else f"teachers, item {number}: ")
    check_loggers(settings.wandb, tensorboard=settings.tensorboard)
    flags = settings.trainer
    count = wanted_devices(flags["devices"], accelerator=accelerator(flags["accelerator"]))
    set_tf32(flags)
    status = start_all("recipes.pretrain", argv, count=count)
    if status is not None:
        return status
    processes = join()
    parent = Path(settings.run.dir) / settings.run.name
    resume = settings.run.resume
    with running(parent, settings.values, resume=resume, processes=processes) as folder:
        # Lightning takes longer to import than all before: what is wrong is said by now.
        from recipes.pretrain.chain import run

        run(chain, folder, processes=processes, started=started)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
