# SPDX-License-Identifier: Apache-2.0
"""SVG text to put into a page, by matplotlib: in the page's fonts and its colour of ink.

Nothing in it points elsewhere, and ids are unlike those of another picture of the page.
"""

import html
import io
import re
from typing import Any

# Okabe and Ito's colours, which colour-blind readers can distinguish and which stand out from black
# and from white (https://jfly.uni-koeln.de/color), and dashes, so that none rests on colour alone.
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
    "lines.scale_dashes": False,  # dashes of wide lines are those of the legend
}


def line_style(number: int) -> tuple[str, str]:
    """Colour and SVG dashes of the upstream with this number: 18 that differ."""
    return COLOURS[number % len(COLOURS)], DASHES[number // 3 % len(DASHES)]


def pen(number: int) -> dict[str, Any]:
    """The same as keywords of matplotlib."""
    colour, dashes = line_style(number)
    return {"color": colour, "ls": (0, tuple(map(float, dashes.split()))) if dashes else "-"}


def settings() -> Any:
    """Within this context figures are drawn in the style of the page."""
    import matplotlib as mpl

    return mpl.rc_context(SETTINGS)


def new_figure(size: tuple[float, float]) -> tuple[Any, Any]:
    """Figure and axes, of a width and height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def to_svg(figure: Any, name: str, *, label: str) -> str:
    """The figure as an element; `name` comes before each of its ids."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # would hold for the whole page
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"(?<=\dpx )'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    text = text.replace(INK, "currentColor")
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)
