# SPDX-License-Identifier: Apache-2.0
"""Fine-tune an encoder for a task: train, choose on dev, test.

python -m recipes.finetune ctc --config=configs/finetune/ctc_100h.yaml --init=CKPT [--key=value ...]
"""

import sys
import time
from pathlib import Path
from typing import Any

from recipes.finetune.settings import (
    TASKS,
    FinetuneSettings,
    init_of,
    read_finetune_settings,
)
from recipes.run.devices import accelerator, set_tf32
from recipes.run.exit_status import exit_status
from recipes.run.folder import running
from recipes.run.logger_checks import check_loggers
from recipes.run.mini_model import is_missing, train_mini
from recipes.run.processes import Processes, join, start_all, wanted_devices
from recipes.superb.sources import sources_of, tell_unusable
from wavlm_lightning.config import ConfigError
from wavlm_lightning.model.config import WavLMConfig


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return exit_status(lambda: _main(argv))


def _main(argv: list[str]) -> int:
    if not argv or argv[0].startswith("--"):
        raise ConfigError(f"a task is wanted: {', '.join(TASKS)}")
    started, name = time.perf_counter(), argv[0]
    if is_missing(init_of(name, argv[1:])):
        # Keys, files and folders are checked with the shape that the model will have.
        _check(read_finetune_settings(name, argv[1:], start=WavLMConfig.mini()))
        train_mini()
    settings = read_finetune_settings(name, argv[1:])
    check_loggers(settings.wandb, tensorboard=settings.tensorboard)
    flags = settings.trainer
    count = wanted_devices(flags["devices"], accelerator=accelerator(flags["accelerator"]))
    set_tf32(flags)
    status = start_all("recipes.finetune", argv, count=count)
    if status is not None:
        return status
    processes = join()
    task = _task(settings, processes)
    parent, resume = Path(settings.run.dir) / settings.run.name, settings.run.resume
    with running(parent, settings.values, resume=resume, processes=processes) as folder:
        # Lightning takes longer to import than all before: what is wrong is said by now.
        from recipes.finetune.training import run

        run(settings, task, folder, processes, started=started)
    return 0


def _task(settings: FinetuneSettings, processes: Processes) -> Any:
    kind = TASKS[settings.name]
    where = sources_of(
        settings.kind,
        settings.paths,
        settings.data,
        corpus=kind.corpus,
        processes=processes,
    )
    with processes.first_before_others():  # what it reads of recordings, they are told
        task = kind(settings.task, where, seed=settings.seed)
    if processes.first:
        tell_unusable(where)
    return task


def _check(settings: FinetuneSettings) -> None:
    """Find what is wrong with the recordings before the model is trained that this starts from."""
    check_loggers(settings.wandb, tensorboard=settings.tensorboard)
    _task(settings, Processes(0, 1, 1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
