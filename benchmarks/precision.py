# SPDX-License-Identifier: Apache-2.0
"""How much a score moves with the number format of the upstream and with the batches of a test.

    python -m benchmarks.precision [--results=results] [--upstream=wavlm_mini] [--tasks=asv,er]

Takes the heads that `make superb` left for seed 0, and scores each of them on dev and test again
without kept features: in float32 one utterance at a time, which is the reference, in float32 in
batches, and in bfloat16 one at a time, in batches of 20 s and in batches of 120 s.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from wavlm_lightning.checkpoint_file import read_checkpoint

import wavlm_lightning.recipes  # isort: skip  (first: it sets how torch's threads wait)
from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.features.frames import ConvolutionFraming
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.features.upstream import load_upstream
from wavlm_lightning.downstream.results import ProbeResult, read_probe_results
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.superb.settings import TaskSettings, read_probe_settings
from wavlm_lightning.recipes.superb.sources import sources_of

assert wavlm_lightning.recipes
ALONE = 1e-3  # seconds of a batch: one utterance, however long
CONDITIONS = [
    ("float32", ALONE),
    ("float32", 120.0),
    ("bfloat16", ALONE),
    ("bfloat16", 20.0),
    ("bfloat16", 120.0),
]


def evaluate(
    settings: TaskSettings,
    task: TrainedTask[Any],
    frozen: Frozen,
    checkpoint: Path,
    *,
    seconds: float,
) -> float:
    """The headline of a head on test."""
    config = dataclasses.replace(settings.data, eval_seconds=seconds, num_workers=0)
    data = TaskData(task, config, total_updates=1, seed=settings.seed)
    learner = Learner(task, frozen, settings.featurizer, lr=1.0, seed=settings.seed).eval()
    learner.load_state_dict(read_checkpoint(checkpoint)["state_dict"])
    for split in ("dev", "test"):
        found = {}
        with torch.no_grad():
            for batch in data.eval_dataloader(split):
                features = frozen(batch.waveforms, batch.lengths)
                for index, name, value in learner.predict(features, batch):
                    found[index] = (name, value)
        learner.predictions[split] = dict(found[i] for i in sorted(found))
        if split == "dev":
            learner.task.tune(learner.predictions["dev"])
    scores = learner.task.score("test", learner.predictions["test"])
    return scores[task.headline.partition("/")[2]]


def compare(result: ProbeResult) -> list[float]:
    """The headline of a result's head under each condition; of several variants, the first's."""
    settings = read_probe_settings(result.task, result.upstream, [f"--seed={result.seed}"])
    kind = load_task(result.task)
    where = sources_of(
        settings.kind,
        settings.paths,
        settings.data,
        corpus=kind.corpus,
        processes=Processes(0, 1, 1),
    )
    variant = next(iter(result.checkpoints))
    assert issubclass(kind, TrainedTask)
    task = kind(
        settings.task,
        where,
        framing=ConvolutionFraming(),
        seed=settings.seed,
        variant=variant or None,
    )
    checkpoint = Path(result.checkpoints[variant][0])
    found = []
    for precision, seconds in CONDITIONS:
        upstream = dataclasses.replace(settings.upstream, precision=precision)  # type: ignore[arg-type]
        frozen, _ = load_upstream(upstream)
        found.append(evaluate(settings, task, frozen, checkpoint, seconds=seconds))
    return found


def main(argv: list[str]) -> int:
    """Print a table: the reference, and what each other condition adds to it."""
    parser = argparse.ArgumentParser(prog="benchmarks.precision", description=__doc__)
    parser.add_argument("--results", default="results")
    parser.add_argument("--upstream", default="wavlm_mini")
    parser.add_argument("--tasks", default="")
    options = parser.parse_args(argv)
    wanted = set(filter(None, options.tasks.split(",")))
    heads = [
        r
        for r in read_probe_results(Path(options.results))
        if r.upstream == options.upstream
        and r.seed == 0
        and issubclass(load_task(r.task), TrainedTask)
    ]
    print("| task | float32 alone | float32, 120 s | bf16 alone | bf16, 20 s | bf16, 120 s |")
    print("|---|--:|--:|--:|--:|--:|")
    for result in heads:
        if wanted and result.task not in wanted:
            continue
        first, *others = compare(result)
        cells = " | ".join(f"{value - first:+.3f}" for value in others)
        figure = result.headline.partition("/")[2]
        print(f"| {result.task}, {figure} | {first:.3f} | {cells} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
