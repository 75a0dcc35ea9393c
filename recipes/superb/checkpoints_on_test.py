# SPDX-License-Identifier: Apache-2.0
"""What a protocol that chooses its checkpoint on the test set would report.

Published scores of some tasks are such (`Task.published_on_test`): evenly spaced checkpoints are
scored on test, and the best of them stands beside the one that was chosen on dev, or alone.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wavlm_lightning.checkpoint_file import read_checkpoint
from wavlm_lightning.downstream.adapt.adapted import Adapted
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.task import Task
from wavlm_lightning.recipes.superb.checkpoints import evenly_kept, write_portable

Scores = dict[str, dict[int, float]]  # by learner and update


def scores_on_test(
    test: Callable[[], Mapping[str, Mapping[str, float]]],
    probe: Adapted,
    folder: Path,
    *,
    tell: Callable[[str], None] | None = None,
) -> Scores:
    """The headline of each learner at each checkpoint; the probe has the last one's weights then.

    Args:
        test: Gives the figures of each learner with the weights that the probe has.
        probe: Of the run.
        folder: Of the run.
        tell: Is given a line before each.
    """
    pattern = evenly_kept(folder)
    found: Scores = {x.name: {} for x in probe.active_learners()}
    updates = sorted(int(p.stem.removeprefix("update")) for p in pattern.parent.glob(pattern.name))
    for number, update in enumerate(updates, 1):
        if tell is not None:
            tell(f"testing {number} of {len(updates)} checkpoints")
        # The upstream is absent from checkpoints, so this loads heads and layer weights alone.
        probe.load_state_dict(read_checkpoint(evenly_kept(folder, update))["state_dict"])
        for name, metrics in test().items():
            found[name][update] = metrics[probe.task.headline]
    return found


def best_on_test(task: Task[Any], scores: Mapping[int, float]) -> dict[str, float]:
    """The best of a learner's checkpoints as a figure of its own, if there are any."""
    if not scores:
        return {}
    best_of = min if task.headline_mode == "min" else max
    return {f"{task.headline}_best_of_{len(scores)}_test": best_of(scores.values())}


def keep_best_on_test(
    path: Path, probe: Adapted, learner: Learner, scores: Mapping[int, float], folder: Path
) -> dict[str, float]:
    """Put the best checkpoint on test in place of the one that dev chose.

    Args:
        path: Of the learner's best checkpoint.
        probe: Of the run.
        learner: Whose checkpoints they are.
        scores: Of it, by update.
        folder: Of the run.

    Returns:
        Its score and update.
    """
    best_of = min if learner.task.headline_mode == "min" else max
    update = best_of(scores, key=lambda update: scores[update])
    probe.load_state_dict(read_checkpoint(evenly_kept(folder, update))["state_dict"])
    write_portable(path, probe, learner)
    return {"value": scores[update], "update": float(update)}
