# SPDX-License-Identifier: Apache-2.0
"""Fine-tune an encoder for a task: train, choose on dev, test.

python -m recipes.finetune ctc --config=configs/finetune/ctc_100h.yaml --init=CKPT [--key=value ...]
"""

import sys
import time
from pathlib import Path
from typing import Any

from downstream.data import DataConfig, TaskData
from recipes.common import accelerator, quiet_libraries
from recipes.endings import exit_status
from recipes.finetune_settings import (
    TASKS,
    FinetuneSettings,
    init_of,
    read_finetune_settings,
)
from recipes.finetuning import Tuned, finetune
from recipes.loggers import check_loggers
from recipes.mini_model import is_missing, train_mini
from recipes.processes import Processes, join, start_all, wanted_devices
from recipes.runs import RESULT, point_to, running
from recipes.sources import sources_of, tell_unusable
from wavlm_lightning.config import ConfigError, flat
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.weights import source_sha256
from wavlm_lightning.result import write_result


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return exit_status(lambda: _main(argv))


def _main(argv: list[str]) -> int:
    if not argv or argv[0].startswith("--"):
        raise ConfigError(f"a task is wanted: {', '.join(TASKS)}")
    started, name = time.perf_counter(), argv[0]
    quiet_libraries()
    if is_missing(init_of(name, argv[1:])):
        # Keys, files and folders are checked with the shape that the model will have.
        _check(read_finetune_settings(name, argv[1:], start=WavLMConfig.mini()))
        train_mini()
    settings = read_finetune_settings(name, argv[1:])
    check_loggers(settings.wandb, tensorboard=settings.tensorboard)
    flags = settings.trainer
    count = wanted_devices(flags["devices"], accelerator=accelerator(flags["accelerator"]))
    status = start_all("recipes.finetune", argv, count=count)
    if status is not None:
        return status
    processes = join()
    task = _task(settings, processes)
    data = build_data(settings, task, processes)
    parent, resume = Path(settings.run.dir) / settings.run.name, settings.run.resume
    with running(parent, settings.values, resume=resume, processes=processes) as folder:
        tuned = finetune(settings, task, data, folder, processes)
        if processes.first:
            _finish(settings, tuned, folder, seconds=time.perf_counter() - started)
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


def build_data(settings: FinetuneSettings, task: Any, processes: Processes) -> TaskData:
    """Loaders whose batches and updates have the seconds that are asked for, about."""
    section, train = settings.data, task.examples("train")
    mean = sum(e.num_samples for e in train) / max(len(train), 1) / SAMPLE_RATE
    config = DataConfig(
        batch_size=max(1, round(section.seconds_per_batch / max(mean, 1e-9))),
        batches_per_update=max(1, round(section.seconds_per_update / section.seconds_per_batch)),
        order="bucketed",
        eval_seconds=section.eval_seconds,
        num_workers=section.num_workers,
    )
    return TaskData(
        task,
        config,
        total_updates=settings.optim.total_updates,
        seed=settings.seed,
        rank=processes.rank,
        world=processes.world,
    )


def _finish(settings: FinetuneSettings, tuned: Tuned, folder: Path, *, seconds: float) -> None:
    write_result(
        folder / RESULT,
        settings.name,
        upstream=settings.run.name,
        metrics=tuned.metrics,
        selected_on=TASKS[settings.name].monitor,
        config=flat(settings.values) | {"init.sha256": source_sha256(settings.source)},
        checkpoint=tuned.checkpoint,
        counts=tuned.counts,
        seconds=seconds,
    )
    point_to(folder)
    figures = [f"{key:<28} {value:.3f}" for key, value in tuned.metrics.items()]
    comparable = (
        []
        if settings.kind == "official"
        else [f"corpus       {settings.kind}: not comparable with published scores"]
    )
    print(
        "\n".join(
            [
                "",
                *figures,
                *comparable,
                f"seconds      {seconds:.0f}, this start",
                f"checkpoint   {tuned.checkpoint}",
                f"result       {folder / RESULT}",
                f"predictions  {folder / 'predictions'}",
                f"next: for transformers:  make export CKPT={tuned.checkpoint} OUT=DIR",
            ]
        ),
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
