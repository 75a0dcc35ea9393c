# SPDX-License-Identifier: Apache-2.0
"""Summarize results: scores beside the published ones, layer weights, what they come from.

wavlm table [--results=results]

Prints Markdown and leaves it in table.md, and as a page with pictures in report.html.
"""

import re
import sys
from pathlib import Path

from wavlm_lightning.config import one_line
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.downstream.results import read_probe_results
from wavlm_lightning.files import write_text
from wavlm_lightning.recipes.report.html import to_html
from wavlm_lightning.recipes.report.pretraining import pretrainings
from wavlm_lightning.recipes.report.report_blocks import (
    Block,
    Cell,
    LayerWeights,
    Notes,
    Pictures,
    Section,
    Table,
)
from wavlm_lightning.recipes.report.summary import summarize
from wavlm_lightning.recipes.run.exit_status import end_with_reader
from wavlm_lightning.shipped import command


def build_parser() -> Parser:
    """Options."""
    parser = Parser(prog="wavlm table", description=__doc__)
    parser.add_argument("--results", type=str, default="results", help="folder of results")
    parser.add_argument("--runs", type=str, default="runs/pretrain", help="folder of pre-trainings")
    return parser


def main(argv: list[str]) -> int:
    """Print the summary and write both files; 1 after an error, which one line explains."""
    try:
        options = build_parser().parse_args(argv)
        folder = Path(options.results)
        left_out: list[str] = []
        results = read_probe_results(folder, tell=left_out.append)
        for line in left_out:
            print(line, file=sys.stderr)
        trained = pretrainings(Path(options.runs))
        if not results and not trained:
            raise ValueError(f"no results in {folder}: {command()} superb TASK=asv makes one")
        sections = [*(summarize(results) if results else []), *trained]
        if left_out:
            sections.append(Section("Files that are no results", [Notes(left_out)]))
        text = to_markdown(sections)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "table.md", text)
        write_text(folder / "report.html", to_html(sections))
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    print(text)
    print(f"written: {folder}/table.md, {folder}/report.html", file=sys.stderr)
    return 0


def to_markdown(sections: list[Section]) -> str:
    """All sections without their pictures."""
    parts = ["# Results"]
    for section in sections:
        parts.append(f"{'#' * section.level} {escape(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case str():
            return escape(block)
        case Notes(lines):
            return "\n".join(f"- {escape(line)}" for line in lines)
        case Table():
            return _table(block)
        case LayerWeights(upstream, rows, values):
            layers = [str(i) for i in range(max(map(len, values)))]
            numbers = [[Cell(f"{weight:.3f}") for weight in row] for row in values]
            cells = [[Cell(name), *row] for name, row in zip(rows, numbers, strict=True)]
            return _table(Table([f"{upstream}, layer", *layers], cells))
        case Pictures():
            return "Drawn in report.html."


def _table(table: Table) -> str:
    width = len(table.header)
    lines = [" | ".join(map(escape, table.header)), " | ".join(["---"] + ["--:"] * (width - 1))]
    for row in table.rows:
        texts = [f"**{escape(c.text)}**" if c.bold else escape(c.text) for c in row]
        lines.append(" | ".join(texts + [""] * (width - len(row))))
    return "\n".join(f"| {line} |" for line in lines)


def escape(text: str) -> str:
    r"""A text as Markdown that shows just that text, in a table too; `_` within a word is none.

    >>> escape("wavlm_base | <b>*x*</b> _y")
    'wavlm_base \\| \\<b\\>\\*x\\*\\</b\\> \\_y'
    """
    text = re.sub(r"([\\`*\[\]<>|~$&#])", r"\\\1", " ".join(text.split()))
    edges = r"(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])"
    return re.sub(edges, lambda match: match[0].replace("_", r"\_"), text)


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main(sys.argv[1:]))
