# SPDX-License-Identifier: Apache-2.0
"""Pre-trainings in a report: what came out, and how each iteration learned."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from wavlm_lightning.files import read_json
from wavlm_lightning.recipes.report.report_blocks import (
    Cell,
    Curves,
    Picture,
    Pictures,
    Section,
    Table,
)
from wavlm_lightning.recipes.report.table_notes import short
from wavlm_lightning.recipes.run.curves import read_curves
from wavlm_lightning.recipes.run.folder import LATEST, RESULT

POINTS = 60  # of a line: means over as many stretches of updates
FIGURES = {  # logged figure -> what it is called
    "train/loss": "masked loss, training (nats)",
    "dev/loss": "masked loss, dev (nats)",
    "train/accuracy_masked": "masked accuracy, training",
    "dev/accuracy_masked": "masked accuracy, clean dev",
    "dev_mixed/accuracy_masked": "masked accuracy, mixed dev",
    "dev/codes_predicted": "share of codes predicted, dev",
}
Points = list[tuple[int, float]]


def pretrainings(root: Path) -> list[Section]:
    """A section for the newest finished run of each configuration; none where there is no run.

    Args:
        root: Folder of pre-trainings, `run.dir`.
    """
    runs = [folder for folder in sorted(root.glob(f"*/{LATEST}")) if (folder / RESULT).is_file()]
    if not runs:
        return []
    rows = [_row(folder.parent.name, read_json(folder / RESULT)) for folder in runs]
    header = ["run", "masked accuracy, clean", "mixed", "majority label", "PNMI of labels"]
    header += ["hours trained on", "updates", "seconds", "commit"]
    sections = [Section("Pre-training", [Table(header, rows)])]
    for folder in runs:
        if pictures := _pictures(folder):
            iterations = _iterations(folder)
            numbers = {name: number for number, name in enumerate(iterations)}
            text = f"Means over {POINTS} stretches of updates; dev at each validation."
            title = f"How {folder.parent.name} learned"
            sections.append(Section(title, [text, Pictures(pictures, numbers)], level=3))
    return sections


def _row(name: str, result: dict[str, Any]) -> list[Cell]:
    metrics = result["metrics"]
    found = {
        key.removeprefix("labels.").partition("/")[0]: value
        for key, value in metrics.items()
        if key.endswith("/pnmi") and value is not None
    }
    return [
        Cell(text)
        for text in (
            name,
            *(
                f"{metrics[key]:.3f}"
                for key in ("dev/accuracy_masked", "dev_mixed/accuracy_masked", "dev/majority")
            ),
            ", ".join(f"{kind} {value:.3f}" for kind, value in found.items()) or "no alignments",
            f"{metrics['audio_hours']:.1f}",
            str(result["config"].get("optim.total_updates", "")),
            f"{result['seconds']:.0f}",
            short(result["commit"]),
        )
    ]


def _iterations(folder: Path) -> dict[str, Path]:
    """Folders of a run's trainings by what they are called; the last one is the run's own."""
    before = sorted(folder.glob("iteration*"), key=lambda path: int(path.name[9:] or 0))
    folders = [*before, folder]
    return {f"iteration {number}": path for number, path in enumerate(folders, start=1)}


def _pictures(folder: Path) -> list[Picture]:
    curves = {name: read_curves(path) for name, path in _iterations(folder).items()}
    pictures: list[Picture] = []
    for figure, title in FIGURES.items():
        lines = {
            name: [averaged(sorted(logged[figure].items()))]
            for name, logged in curves.items()
            if logged.get(figure)
        }
        if lines:
            pictures.append(Curves(title, figure, "update", lines))
    return pictures


def averaged(points: Sequence[tuple[int, float]], *, most: int = POINTS) -> Points:
    """Means of neighbouring points, at most so many.

    >>> averaged([(0, 1.0), (1, 3.0), (2, 5.0), (3, 7.0)], most=2)
    [(0, 2.0), (2, 6.0)]
    """
    if len(points) <= most:
        return list(points)
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    parts = [points[a:b] for a, b in pairwise(edges)]
    return [(round(mean(x for x, _ in part) - 0.5), mean(y for _, y in part)) for part in parts]
