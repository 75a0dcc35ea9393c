# SPDX-License-Identifier: Apache-2.0
"""Pictures of a report as SVG text; an upstream has the same colour and dashes in all."""

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from wavlm_lightning.recipes.report.report_blocks import (
    Bars,
    Confusion,
    Curves,
    DetCurves,
    LayerWeights,
    Picture,
)
from wavlm_lightning.recipes.report.svg import INK, new_figure, pen, settings, to_svg

NUMBERED_LAYERS = 13  # up to as many, cells are wide enough for a number
PHONE_INCHES = 3.3  # what a screen of 360 pixels has room for beside its margins
LONGEST_BAR, STUB = 1500.0, 40.0  # points of superb_s
RATES = (0.1, 0.5, 2, 5, 10, 20, 40, 60, 80)  # percent


def draw_layer_weights(weights_of: LayerWeights, name: str) -> str:
    """Layer weights, a row a task; all rows on one scale from zero.

    Rows that are 1 at one layer do not set the scale: the others would all be dark.
    """
    import numpy as np

    num_layers = max(map(len, weights_of.values))
    weights = np.full((len(weights_of.values), num_layers), np.nan)  # (rows, layers)
    for row, values in enumerate(weights_of.values):
        weights[row, : len(values)] = values
    longest = max(map(len, weights_of.rows))
    size = (1.5 + 0.07 * longest + 0.42 * num_layers, 0.9 + 0.32 * len(weights_of.rows))
    with settings():
        figure, axis = new_figure(size)
        spread = weights[np.nanmax(weights, axis=1) < 1.0]
        top = float(np.nanmax(spread if len(spread) else weights))
        mesh = axis.pcolormesh(weights, cmap="cividis", vmin=0.0, vmax=top or 1.0)
        _name_cells(axis, list(map(str, range(num_layers))), weights_of.rows)
        axis.set(xlabel="layer")
        figure.colorbar(mesh, ax=axis, fraction=0.05, pad=0.02, ticks=[0.0, top], format="%.2f")
        if num_layers <= NUMBERED_LAYERS:
            for (row, layer), weight in np.ndenumerate(weights):
                if not np.isnan(weight):
                    _write(axis, row, layer, f"{weight:.2f}".removeprefix("0"), weight / (top or 1))
        return to_svg(figure, name, label=f"Layer weights of {weights_of.upstream}")


def draw(picture: Picture, numbers: Mapping[str, int], name: str) -> str:
    """A picture without its title; `numbers` say which colour an upstream has."""
    with settings():
        match picture:
            case Curves():
                figure, kind = _curves(picture, numbers), "Learning curves"
            case Bars():
                figure, kind = _bars(picture, numbers), "Scores of tasks"
            case Confusion():
                figure, kind = _confusion(picture), "Confusions"
            case DetCurves():
                figure, kind = _det_curves(picture, numbers), "Misses against false alarms"
        return to_svg(figure, name, label=f"{kind}: {picture.title}")


def _curves(curves: Curves, numbers: Mapping[str, int]) -> Any:
    figure, axis = new_figure((PHONE_INCHES, 2.2))
    for upstream, seeds in curves.lines.items():
        for points in seeds:
            x, y = zip(*points, strict=True)
            axis.plot(x, y, lw=_width(seeds), marker=".", ms=4, **pen(numbers[upstream]))
    axis.set(xlabel=curves.across, ylabel=curves.figure)
    axis.locator_params(axis="x", nbins=5, integer=True)
    axis.grid(color=INK, alpha=0.15, lw=0.6)
    return figure


def _bars(bars: Bars, numbers: Mapping[str, int]) -> Any:
    """A group a task, a bar an upstream, its score in digits at the right edge."""
    rows = [(task, upstream) for task, scores in bars.scores.items() for upstream in scores]
    groups = {task: i for i, task in enumerate(bars.scores)}
    heights = {row: i + 0.8 * groups[row[0]] for i, row in enumerate(rows)}
    bottom = max(heights.values()) + 0.8
    right = max(1000.0, *(_cut(s) for by in (bars.scores, bars.published) for s in _values(by)))
    figure, axis = new_figure((PHONE_INCHES, 0.6 + 0.17 * bottom))
    axis.vlines([0.0, 1000.0], -0.8, bottom, color=INK, lw=0.8, alpha=0.5)
    for (task, upstream), y in heights.items():
        score, style = bars.scores[task][upstream], pen(numbers[upstream])
        # It begins left of zero, so that one of zero or less has its colour too.
        axis.hlines(y, -STUB, _cut(score), lw=7, alpha=0.45, color=style["color"])
        axis.hlines(y, -STUB, _cut(score), lw=7, **style)
        mark = bars.published.get(task, {}).get(upstream)
        if mark is not None:
            axis.plot(_cut(mark), y, "D", ms=5, mfc="none", mec=INK)
        axis.text(right + 270, y, f"{score:.0f}", ha="right", va="center", fontsize=8)
    axis.set_yticks([_middle(heights, task) for task in bars.scores], list(bars.scores))
    axis.set_xticks([0, 500, 1000], ["0", "500", "1000"])
    axis.tick_params(axis="y", length=0)
    axis.spines[:].set_visible(False)
    axis.set(xlim=(-STUB, right + 280), ylim=(bottom, -0.8))
    return figure


def _values(scores: Mapping[str, Mapping[str, float]]) -> list[float]:
    return [value for by in scores.values() for value in by.values()]


def _cut(score: float) -> float:
    return min(max(score, 0.0), LONGEST_BAR)


def _middle(heights: Mapping[tuple[str, str], float], task: str) -> float:
    own = [y for (name, _), y in heights.items() if name == task]
    return (own[0] + own[-1]) / 2


def _confusion(confusion: Confusion) -> Any:
    """Percent of the utterances of each right class, as colour and as a number."""
    import numpy as np

    counts = np.array(confusion.counts, float)  # (C, C)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    longest = 0.075 * max(map(len, confusion.classes))
    side = 0.3 * len(counts)
    figure, axis = new_figure((1.0 + longest + side, 0.5 + longest + side))
    axis.pcolormesh(shares, cmap="cividis", vmin=0.0, vmax=1.0)
    rows = [f"{c} ({n:.0f})" for c, n in zip(confusion.classes, totals[:, 0], strict=True)]
    _name_cells(axis, confusion.classes, rows)
    axis.tick_params(axis="x", rotation=90)
    axis.set_xlabel("predicted", labelpad=6)
    axis.set_ylabel("right", labelpad=6)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            _write(axis, row, column, f"{100 * share:.0f}", share)
    return figure


def _det_curves(curves: DetCurves, numbers: Mapping[str, int]) -> Any:
    """Both axes as normal deviates, on which scores with normal distributions are a line."""
    figure, axis = new_figure((PHONE_INCHES, PHONE_INCHES))
    for upstream, seeds in curves.lines.items():
        style = pen(numbers[upstream])
        for one in seeds:
            x, y = map(_deviates, (one.false_alarms, one.misses))
            equal = _deviates([one.eer / 100])
            axis.plot(x, y, lw=_width(seeds), **style)
            axis.plot(equal, equal, "o", ms=6, color=style["color"])
    worst = max(one.eer for seeds in curves.lines.values() for one in seeds)
    low, high = _deviates([RATES[0] / 100, 0.5 if worst < 40 else 0.9])
    ticks = _deviates([rate / 100 for rate in RATES])
    axis.plot([low, high], [low, high], color=INK, alpha=0.3, lw=0.8)
    axis.set_xticks(ticks, [f"{rate:g}" for rate in RATES])
    axis.set_yticks(ticks, [f"{rate:g}" for rate in RATES])
    axis.set(xlim=(low, high), ylim=(low, high), xlabel="false alarms (%)", ylabel="misses (%)")
    axis.set_aspect("equal")
    axis.grid(color=INK, alpha=0.15, lw=0.6)
    return figure


def _deviates(shares: list[float]) -> list[float]:
    """Normal deviates; of none and all, those of one in a hundred thousand."""
    return [NormalDist().inv_cdf(min(max(share, 1e-5), 1 - 1e-5)) for share in shares]


def _width(seeds: list[Any]) -> float:
    return 0.8 if len(seeds) > 1 else 1.4


def _name_cells(axis: Any, columns: list[str], rows: list[str]) -> None:
    axis.invert_yaxis()
    axis.set_xticks([i + 0.5 for i in range(len(columns))], columns)
    axis.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _write(axis: Any, row: int, column: int, text: str, share: float) -> None:
    """A number into a cell, legible on cividis at this share of its range."""
    colour = "white" if share < 0.5 else "black"
    axis.text(column + 0.5, row + 0.5, text, color=colour, fontsize=8, ha="center", va="center")
