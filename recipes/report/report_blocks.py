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
class LayerWeights:
    """Weights (row, layer) of one upstream, to draw or to print."""

    upstream: str
    rows: list[str]
    values: list[list[float]]


@dataclass(frozen=True)
class Curves:
    """Learning curves of one task: of each upstream, one line of (update, value) a seed."""

    title: str
    figure: str
    across: str  # what the first number of a point counts
    lines: dict[str, list[list[tuple[int, float]]]]


@dataclass(frozen=True)
class Bars:
    """Scores of tasks by upstream, all on superb_s's scale; `published` ones are marks."""

    title: str
    scores: dict[str, dict[str, float]]
    published: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for each: counts[right][predicted]."""

    title: str
    classes: list[str]
    counts: list[list[int]]


@dataclass(frozen=True)
class ErrorRates:
    """Shares of misses and false alarms at rising thresholds; equal error rate in percent."""

    misses: list[float]
    false_alarms: list[float]
    eer: float


@dataclass(frozen=True)
class DetCurves:
    """Misses against false alarms (a DET plot): of each upstream, one curve a seed."""

    title: str
    lines: dict[str, list[ErrorRates]]


Picture = Curves | Bars | Confusion | DetCurves


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side; `numbers` of upstreams are their colours, {} where none is named."""

    pictures: list[Picture]
    numbers: dict[str, int] = field(default_factory=dict)


Block = str | Table | Notes | LayerWeights | Pictures


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    level: int = 2
