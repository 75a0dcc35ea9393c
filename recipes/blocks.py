# SPDX-License-Identifier: Apache-2.0
"""What a summary is made of: plain text, tables and numbers to draw, none of it escaped."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """One cell; `paper` marks what others published."""

    text: str
    bold: bool = False
    paper: bool = False


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows."""

    header: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Notes:
    """Short lines below a table."""

    lines: list[str]


@dataclass(frozen=True)
class Heat:
    """Weights (row, layer) of one upstream, to draw or to print."""

    upstream: str
    rows: list[str]
    values: list[list[float]]


@dataclass(frozen=True)
class Panel:
    """Learning curves of one task: of each upstream, one line of (update, value) a seed."""

    title: str
    figure: str
    lines: dict[str, list[list[tuple[int, float]]]]


@dataclass(frozen=True)
class Curves:
    """Panels that share the colours of all upstreams."""

    upstreams: list[str]
    panels: list[Panel]


Block = str | Table | Notes | Heat | Curves


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    level: int = 2
