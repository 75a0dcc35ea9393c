# SPDX-License-Identifier: Apache-2.0
"""Bars of time and lines of memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.names import AS_IT_COMES

Line = dict[str, Any]


def draw(lines: Sequence[Line], path: Path) -> None:
    """One panel for times, one for peak memory over the length of an utterance."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    timed = [x for x in lines if x.get("process") == AS_IT_COMES]
    labels = [f"{x['what']}, {x['precision']}: {x['contender']}" for x in timed]
    colours = ["tab:orange" if x["contender"] == "ours" else "tab:gray" for x in timed]
    left.barh(labels, [x["seconds"] for x in timed], color=colours)
    left.invert_yaxis()
    left.set_xlabel("seconds for 4 x 10 s, median, every process as it comes")
    left.tick_params(labelsize=7)
    for what in ("training", "inference"):
        found = [x for x in lines if x["what"] == f"{what} memory of one utterance"]
        right.plot([x["seconds_each"] for x in found], [x["mib"] for x in found], "o-", label=what)
    for name in sorted({x["contender"] for x in lines if _step(x)}):
        found = [x for x in lines if _step(x) and x["contender"] == name]
        style = {"linestyle": "--", "marker": "s", "alpha": 0.6}
        right.plot(
            [x["seconds_each"] for x in found],
            [x["mib"] for x in found],
            label=f"training, 40 s of audio: {name}",
            **style,
        )
    right.set_xlabel("seconds of an utterance")
    right.set_ylabel("peak MiB, parameters and optimizer included")
    right.set_ylim(bottom=0)
    if right.get_legend_handles_labels()[0]:
        right.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _step(line: Line) -> bool:
    return line["what"] == "training memory" and line["precision"] == "fp32"
