# SPDX-License-Identifier: Apache-2.0
"""A task from Python: the same as `make superb`, with its result as a value."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavlm_lightning.config_stack import override_words
from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.corpora.manifest import NAME
from wavlm_lightning.files import read_json
from wavlm_lightning.recipes.run.folder import LATEST, RESULT
from wavlm_lightning.recipes.run.program import run_job
from wavlm_lightning.recipes.superb.job import task_job


def evaluate(
    task: str,
    upstream: str = "wavlm_mini",
    *,
    corpus: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train and test the heads of a task on a frozen upstream, in a new run.

    Args:
        task: A name of `downstream.tasks`.
        upstream: A name in configs/upstream, a path, a hub id or module:Class.
        corpus: Its corpus in the official layout, or a folder with a manifest.tsv; None: the mini
            one.
        overrides: Further keys, such as {"optim.lr": 1e-3}.

    Returns:
        What `result.json` of the run holds: "metrics", "counts", "config" and the like.

    Raises:
        ConfigError: naming a key.
        ValueError, OSError: for recordings or an upstream that cannot be used.
    """
    said = dict(overrides or {})
    if corpus is not None:
        own = (Path(corpus) / NAME).is_file()
        said["data.manifest" if own else f"paths.{load_task(task).corpus}"] = str(corpus)
    argv = [task, upstream, *override_words(said)]
    ended = run_job(task_job, argv)
    if ended.status != 0:  # of processes of its own, whose errors are printed by now
        raise RuntimeError(f"{task} on {upstream} ended with status {ended.status}")
    folder = ended.folder
    if folder is None:
        job = task_job(argv)
        folder = Path(job.settings.run.dir) / job.name / LATEST
    result: dict[str, Any] = read_json(folder / RESULT)
    return result
