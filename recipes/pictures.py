# SPDX-License-Identifier: Apache-2.0
"""Pictures of a report as SVG text to put into a page: its fonts, and its colour of ink.

Nothing in them points elsewhere, and ids are unlike those of another picture of the page.
"""

import html
import io
import re
from collections.abc import Sequence
from typing import Any

from recipes.blocks import Heat, Panel

# Okabe and Ito's colours that are told apart by colour-blind people and stand out from black and
# from white (https://jfly.uni-koeln.de/color), and dashes, so that none rests on colour alone.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("", "6 2", "2 2")
INK = "#010203"  # drawn with it is the text colour of the page
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,  # a name may hold dollar signs
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
NUMBERED_LAYERS = 13  # up to as many, cells are wide enough for a number


def line_style(number: int) -> tuple[str, str]:
    """Colour and SVG dashes of the upstream with this number: 18 that differ."""
    return COLOURS[number % len(COLOURS)], DASHES[number // 3 % len(DASHES)]


def draw_heat(heat: Heat, name: str) -> str:
    """Layer weights, a row a task; all rows on one scale from zero."""
    import numpy as np

    num_layers = max(map(len, heat.values))
    weights = np.full((len(heat.values), num_layers), np.nan)  # (rows, layers)
    for row, values in enumerate(heat.values):
        weights[row, : len(values)] = values
    longest = max(map(len, heat.rows))
    size = (1.5 + 0.07 * longest + 0.42 * num_layers, 0.9 + 0.32 * len(heat.rows))
    with _settings():
        figure, axis = _figure(size)
        top = float(np.nanmax(weights))
        mesh = axis.pcolormesh(weights, cmap="cividis", vmin=0.0, vmax=top or 1.0)
        axis.invert_yaxis()
        axis.set_xticks(np.arange(num_layers) + 0.5, range(num_layers))
        axis.set_yticks(np.arange(len(heat.rows)) + 0.5, heat.rows)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set(xlabel="layer")
        figure.colorbar(mesh, ax=axis, fraction=0.05, pad=0.02, ticks=[0.0, top], format="%.2f")
        if num_layers <= NUMBERED_LAYERS:
            for (row, layer), weight in np.ndenumerate(weights):
                if not np.isnan(weight):
                    colour = "white" if weight < 0.6 * top else "black"
                    text = f"{weight:.2f}".removeprefix("0")
                    where = {"ha": "center", "va": "center"}
                    axis.text(layer + 0.5, row + 0.5, text, color=colour, fontsize=8, **where)
        return _svg(figure, name, label=f"Layer weights of {heat.upstream}")


def draw_panel(panel: Panel, upstreams: Sequence[str], name: str) -> str:
    """Learning curves of one task; an upstream has the same colour in all panels."""
    with _settings():
        figure, axis = _figure((3.3, 2.3))
        for upstream, seeds in panel.lines.items():
            colour, dashes = line_style(upstreams.index(upstream))
            style: Any = (0, tuple(map(float, dashes.split()))) if dashes else "-"
            width = 0.8 if len(seeds) > 1 else 1.4
            for points in seeds:
                x, y = zip(*points, strict=True)
                axis.plot(x, y, color=colour, ls=style, lw=width, marker=".", ms=4)
        axis.set(title=panel.title, xlabel="update", ylabel=panel.figure)
        axis.locator_params(axis="x", nbins=5)
        axis.grid(color=INK, alpha=0.15, lw=0.6)
        return _svg(figure, name, label=f"Learning curves: {panel.title}")


def _settings() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    return mpl.rc_context(SETTINGS)


def _figure(size: tuple[float, float]) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")


def _svg(figure: Any, name: str, *, label: str) -> str:
    """The figure as an element; `name` comes before each of its ids."""
    import matplotlib.pyplot as plt

    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    plt.close(figure)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # would hold for the whole page
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"(?<=\dpx )'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    text = text.replace(INK, "currentColor")
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)
