# SPDX-License-Identifier: Apache-2.0
"""One number for ten tasks: `superb_s`, and the plain mean that the WavLM paper prints.

Neither is taken over what happens to be there: a row that lacks a figure has no score.
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from wavlm_lightning.config import read_yaml
from wavlm_lightning.shipped import config_file

NAME = "superb_s_2021_10"
ERRORS = ("per", "wer", "cer", "eer", "der")  # endings of figures that are better when lower

Row = Mapping[str, Mapping[str, float]]  # task -> figure -> value
Reference = dict[str, dict[str, tuple[float, float]]]  # task -> figure -> filter banks, best


def read_reference(file: Path | None = None) -> Reference:
    """Reference points of each task's figures."""
    return {
        task: {name: (float(low), float(high)) for name, (low, high) in figures.items()}
        for task, figures in read_yaml(file or config_file("scores", f"{NAME}.yaml")).items()
    }


def missing(row: Row, reference: Reference) -> list[str]:
    """Tasks of the reference whose figures are not all there."""
    return [
        task
        for task, figures in reference.items()
        if not all(name in row.get(task, {}) for name in figures)
    ]


def task_scores(row: Row, reference: Reference) -> dict[str, float]:
    """What goes into the score, of each task whose figures are all there."""
    lacking = missing(row, reference)
    return {
        task: mean(
            1000 * (row[task][name] - low) / (high - low) for name, (low, high) in figures.items()
        )
        for task, figures in reference.items()
        if task not in lacking
    }


def superb_s(row: Row, reference: Reference) -> float | None:
    """The leaderboard's score, None if a task is missing.

    >>> points = {"er": {"test/accuracy": (40.0, 60.0)}}
    >>> superb_s({"er": {"test/accuracy": 65.0}}, points)
    1250.0
    """
    if missing(row, reference):
        return None
    return mean(task_scores(row, reference).values())


def plain_mean(row: Row, reference: Reference) -> float | None:
    """Mean of all figures in percent, errors as 100 minus them, MTWV times 100.

    WavLM (Chen et al. 2021, Table 1); slot filling counts twice. None if a task is missing.
    """
    if missing(row, reference):
        return None
    return mean(
        _percent(name, row[task][name]) for task, figures in reference.items() for name in figures
    )


def _percent(figure: str, value: float) -> float:
    if figure.endswith("mtwv"):
        return 100 * value
    return 100 - value if figure.endswith(ERRORS) else value
