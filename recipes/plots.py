# SPDX-License-Identifier: Apache-2.0
"""Learning curves as a picture, from the CSV logs of a run."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CURVES = {
    "masked loss (nats)": ("train/loss", "dev/loss", "dev_mixed/loss"),
    "masked accuracy": (
        "train/accuracy_masked",
        "dev/accuracy_masked",
        "dev_mixed/accuracy_masked",
        "dev/majority",
    ),
    "gradient norm": ("train/gradient_norm",),
    "learning rate": ("train/lr",),
}


def read_curves(folder: Path) -> dict[str, dict[int, float]]:
    """Logged figures by name and update; where a resumed run repeats updates, its figures count."""
    curves: dict[str, dict[int, float]] = {}
    logs = sorted(folder.glob("logs/version_*/metrics.csv"), key=_version)
    for path in logs:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        curves.setdefault(name, {})[int(row["step"])] = float(value)
    return curves


def plot_curves(folder: Path) -> Path | None:
    """Draw `curves.png` into the run folder; None if nothing is logged yet."""
    curves = read_curves(folder)
    if not curves:
        return None
    figure, axes = _figure(2, 2, size=(11, 7))
    for axis, (title, names) in zip(axes.flat, CURVES.items(), strict=True):
        for name in names:
            points = sorted(curves.get(name, {}).items())
            if points:
                style = {"lw": 1.0, "alpha": 0.6} if name.startswith("train") else {"marker": "."}
                axis.plot(*zip(*points, strict=True), label=name, **style)
        axis.set(title=title, xlabel="update")
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.legend()
    figure.suptitle(str(folder))
    path = folder / "curves.png"
    _save(figure, path)
    return path


def _version(path: Path) -> int:
    return int(path.parent.name.removeprefix("version_"))


def plot_probe_curves(folder: Path, monitor: str) -> None:
    """Draw `curves.png` of a probe: training loss, and the figure that chooses the checkpoint."""
    curves = read_curves(folder)
    figure, axes = _figure(1, 2, size=(10, 3.5))
    for axis, name in zip(axes, ("train/loss", monitor), strict=True):
        points = sorted(curves.get(name, {}).items())
        if points:
            axis.plot(*zip(*points, strict=True), marker="." if name == monitor else None, lw=1)
        axis.set(title=name, xlabel="update")
        axis.grid(alpha=0.3)
    _save(figure, folder / "curves.png")


def draw_layer_weights(weights: Sequence[float]) -> Any:
    """A figure with one bar a layer; layer 0 enters the first block."""
    figure, axis = _figure(1, 1, size=(6, 3))
    axis.bar(range(len(weights)), weights, color="#33658a")
    axis.axhline(1 / len(weights), color="#888888", lw=1, ls="--")
    axis.set(xlabel="layer (0 enters the first block)", ylabel="weight", title="layer weights")
    axis.set_xticks(range(len(weights)))
    return figure


def plot_layer_weights(weights: Sequence[float], path: Path) -> None:
    """Draw the bars into a file."""
    _save(draw_layer_weights(weights), path)


def _figure(rows: int, columns: int, *, size: tuple[float, float]) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=110)
    plt.close(figure)
