# SPDX-License-Identifier: Apache-2.0
"""A summary as one page that needs no other file: its style and pictures are in it."""

from html import escape

from wavlm_lightning.recipes.report.report_blocks import (
    Block,
    Cell,
    LayerWeights,
    Notes,
    Pictures,
    Section,
    Table,
)
from wavlm_lightning.recipes.report.svg import line_style
from wavlm_lightning.recipes.report.svg_charts import draw, draw_layer_weights

LONG = 24  # characters of a cell that may take several lines
STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --paper: #fff; --faint: #5b6670;
  --line: #d5dae0; --band: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --paper: #15191d; --faint: #9aa5b0; --line: #39424b; --band: #1e242a; }
}
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
h3 { font-size: 1.05rem; margin-top: 1.8rem; } h4 { font-size: 1rem; margin: 1rem 0 .3rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; font-weight: 400; }
thead th { font-weight: 600; border-bottom-color: var(--faint); }
th:first-child { position: sticky; left: 0; background: var(--paper); text-align: left;
  min-width: 6rem; max-width: 9rem; white-space: normal; overflow-wrap: anywhere; }
td.long { white-space: normal; min-width: 7rem; }
@media (min-width: 40rem) { th:first-child { max-width: none; white-space: nowrap; }
  td.long { min-width: 16rem; } }
tr.paper td, tr.paper th { background: var(--band); color: var(--faint); }
ul { padding-left: 1.1rem; color: var(--faint); font-size: .9rem; overflow-wrap: anywhere; }
.pictures { display: flex; flex-wrap: wrap; gap: 1.5rem; margin: .8rem 0; }
figure { margin: 0; max-width: 100%; min-width: 0; } figure .scroll { margin: .2rem 0 0; }
figcaption { font-size: .9rem; overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .9rem; }
svg { display: block; } .legend svg { display: inline-block; vertical-align: middle; }
"""


def to_html(sections: list[Section]) -> str:
    """The page."""
    parts = []
    for number, section in enumerate(sections):
        tag = f"h{section.level}"
        parts.append(f"<{tag}>{escape(section.title)}</{tag}>")
        for place, block in enumerate(section.blocks):
            parts.append(_block(block, name=f"picture{number}-{place}"))
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Results</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Results</h1>
{body}
</body>
</html>
"""


def _block(block: Block, *, name: str) -> str:
    match block:
        case str():
            return f"<p>{escape(block)}</p>"
        case Notes(lines):
            return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        case Table():
            return _table(block)
        case LayerWeights():
            return f"<h4>{escape(block.upstream)}</h4>{_scroll(draw_layer_weights(block, name))}"
        case Pictures():
            return _pictures(block, name=name)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in table.header)
    rows = []
    for first, *rest in table.rows:
        cells = "".join(map(_cell, rest))
        kind = ' class="paper"' if first.paper else ""
        rows.append(f'<tr{kind}><th scope="row">{escape(first.text)}</th>{cells}</tr>')
    body = "\n".join(rows)
    return _scroll(f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>")


def _cell(cell: Cell) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.bold else escape(cell.text)
    return f'<td class="long">{text}</td>' if len(cell.text) > LONG else f"<td>{text}</td>"


def _pictures(block: Pictures, *, name: str) -> str:
    keys = []
    for upstream, number in block.numbers.items():
        colour, dashes = line_style(number)
        line = f'<path d="M0 5H26" stroke="{colour}" stroke-width="3" stroke-dasharray="{dashes}"/>'
        keys.append(f'<span><svg width="26" height="10">{line}</svg> {escape(upstream)}</span>')
    parts = []
    for number, picture in enumerate(block.pictures):
        svg = _scroll(draw(picture, block.numbers, f"{name}-{number}"))
        parts.append(f"<figure><figcaption>{escape(picture.title)}</figcaption>{svg}</figure>")
    legend = f'<div class="legend">{"".join(keys)}</div>' if keys else ""
    return f'{legend}<div class="pictures">{"".join(parts)}</div>'


def _scroll(inner: str) -> str:
    """A box of its own, so that a wide table moves sideways and the page does not."""
    return f'<div class="scroll">{inner}</div>'
