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
from recipes.finetune_settings import TASKS, FinetuneSettings, read_finetune_settings
from recipes.finetuning import Tuned, finetune
from recipes.processes import Processes, join, start_all, wanted_devices
from recipes.runs import RESULT, open_together
from recipes.sources import sources_of
from wavlm_lightning.config import ConfigError, flat
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.model.checkpoint import source_sha256
from wavlm_lightning.result import write_result


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return exit_status(lambda: _main(argv))


def _main(argv: list[str]) -> int:
    if not argv or argv[0].startswith("--"):
        raise ConfigError(f"a task is wanted: {', '.join(TASKS)}")
    started, name = time.perf_counter(), argv[0]
    quiet_libraries()
    settings = read_finetune_settings(name, argv[1:])
    flags = settings.trainer
    count = wanted_devices(flags["devices"], accelerator=accelerator(flags["accelerator"]))
    status = start_all("recipes.finetune", argv, count=count)
    if status is not None:
        return status
    processes = join()
    parent = Path(settings.run.dir) / settings.run.name
    opened = open_together(parent, settings.values, resume=settings.run.resume, processes=processes)
    folder = opened.path
    kind = TASKS[name]
    where = sources_of(
        settings.kind,
        settings.paths,
        settings.data.manifest,
        corpus=kind.corpus,
        processes=processes,
    )
    task = kind(settings.task, where, seed=settings.seed)
    data = build_data(settings, task, processes)
    tuned = finetune(settings, task, data, folder, processes)
    if processes.first:
        _finish(settings, tuned, folder, seconds=time.perf_counter() - started)
    return 0


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
