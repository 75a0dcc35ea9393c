# SPDX-License-Identifier: Apache-2.0
"""Learning curves as a picture, from the CSV logs of a run."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Curves = dict[str, dict[int, float]]  # figure -> update -> value
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


def read_curves(folder: Path) -> Curves:
    """Logged figures by name and update; where a resumed run repeats updates, its figures count."""
    curves: Curves = {}
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


def plot_probe_curves(heads: Mapping[str, Curves], monitor: str, path: Path, *, title: str) -> None:
    """Training loss, and the figure that chooses the checkpoint, a line each head.

    Args:
        heads: Curves of each.
        monitor: The figure.
        path: Picture to write.
        title: Task, upstream and corpus: a picture is passed on without its folder.
    """
    figure, axes = _figure(1, 2, size=(10, 3.5))
    for axis, name in zip(axes, ("train/loss", monitor), strict=True):
        marker = "." if name == monitor else None
        for head, curves in heads.items():
            points = sorted(curves.get(name, {}).items())
            if points:
                axis.plot(*zip(*points, strict=True), marker=marker, lw=1, label=head)
        axis.set(title=name, xlabel="update")
        axis.grid(alpha=0.3)
    if len(heads) > 1:
        axes[1].legend(fontsize="small")
    figure.suptitle(title)
    _save(figure, path)


def draw_layer_weights(heads: Mapping[str, Sequence[float]], *, title: str = "") -> Any:
    """A figure of what each layer weighs, bars of each head; layer 0 enters the first block.

    Args:
        heads: Weights of each.
        title: Task, upstream and corpus.
    """
    figure, axis = _figure(1, 1, size=(6, 3))
    width = 0.8 / len(heads)
    for number, (head, weights) in enumerate(heads.items()):
        left = [layer - 0.4 + (number + 0.5) * width for layer in range(len(weights))]
        axis.bar(left, weights, width=width, label=head)
    layers = len(next(iter(heads.values())))
    axis.axhline(1 / layers, color="#888888", lw=1, ls="--")
    axis.set(
        xlabel="layer (0 enters the first block)",
        ylabel="weight",
        title=f"layer weights, {title}".removesuffix(", "),
    )
    axis.set_xticks(range(layers))
    if len(heads) > 1:
        axis.legend(fontsize="x-small")
    return figure


def plot_layer_weights(heads: Mapping[str, Sequence[float]], path: Path, *, title: str) -> None:
    """Draw the bars into a file."""
    _save(draw_layer_weights(heads, title=title), path)


def _figure(rows: int, columns: int, *, size: tuple[float, float]) -> tuple[Any, Any]:
    # Not by pyplot, which has one backend for all: figures of a notebook would no longer show.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)
