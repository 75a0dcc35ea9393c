# SPDX-License-Identifier: Apache-2.0
"""Learning curves as a picture, from the CSV logs of a run."""

import csv
from pathlib import Path

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
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
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
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _version(path: Path) -> int:
    return int(path.parent.name.removeprefix("version_"))
