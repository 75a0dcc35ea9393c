# SPDX-License-Identifier: Apache-2.0
"""One number an upstream: superb_s and the WavLM paper's mean; each task on superb_s's scale."""

from collections.abc import Mapping, Sequence
from statistics import mean

from wavlm_lightning.downstream.results import ProbeResult
from wavlm_lightning.recipes.report.report_blocks import (
    Bars,
    Block,
    Cell,
    Notes,
    Pictures,
    Section,
    Table,
)
from wavlm_lightning.recipes.report.scores import PAPER_NAMES, Published, results_of, upstreams_of
from wavlm_lightning.recipes.report.superb_score import (
    NAME,
    Reference,
    Row,
    missing,
    plain_mean,
    superb_s,
    task_scores,
)

TITLE = "One number for ten tasks"
NOTES = [
    f"superb_s: the leaderboard's score, with the points of reference of {NAME}. Each figure lies "
    "on a straight line through 0 for filter banks and 1000 for the best model of the SUPERB "
    "paper, errors too, so that higher is better; slot filling is the mean of its two figures, "
    "superb_s the mean of ten tasks. 0: no better than filter banks; 1000: on average as good as "
    "the best of that paper. Nothing is cut off: less than 0 and more than 1000 can be.",
    "mean: the WavLM paper's, over the same figures in percent, errors as 100 minus the error, "
    "MTWV times 100; slot filling counts twice.",
    "incomplete: a row that lacks one of the ten tasks has no score, as others would stand in for "
    "it. ss is not among the ten.",
]
OFFICIAL_NOTES = [
    "FBANK of the paper is not at 0: the leaderboard trained filter banks anew for ks, ic, sid and "
    "er, and its points of reference are those.",
    "asv and sd: the paper's figures were chosen on test, ours are chosen on dev, which costs a "
    "little.",
]
OTHER_NOTES = [
    "superb_s and mean as in the table of the official corpora, and no score for an incomplete "
    "row.",
    "The points of reference belong to the real corpora, so 0 and 1000 mean nothing here: the "
    "figure only ranks upstreams on these same corpora.",
]
DRAWN = (
    "Each task on superb_s's scale{}, higher is better. Bars are cut off below 0 and above 1500; "
    "the numbers are not."
)
OFFICIAL_SCALE = ": 0 is filter banks, 1000 the best of the SUPERB paper"
OTHER_SCALE = ", whose points of reference are those of the real corpus"


def scoreboard(
    results: Sequence[ProbeResult],
    reference: Reference,
    *,
    numbers: Mapping[str, int],
    published: Published | None = None,
    level: int = 3,
) -> Section:
    """Table, best first, and a picture.

    Args:
        results: on corpora of one kind.
        reference: points of superb_s.
        numbers: colours of upstreams.
        published: scores to compare with, None where nothing compares.
        level: of the heading.
    """
    ours = {name: row_of(results_of(results, name), reference) for name in upstreams_of(results)}
    theirs = _published_rows(published or {})
    rows = [(Cell(name), row) for name, row in ours.items()]
    rows += [
        (Cell(f"{PAPER_NAMES.get(name, name)} (paper)", paper=True), row)
        for name, row in theirs.items()
    ]
    rows.sort(key=lambda pair: -(superb_s(pair[1], reference) or float("-inf")))
    table = Table(["upstream", "superb_s", "mean"], [_cells(*pair, reference) for pair in rows])
    notes = OTHER_NOTES if published is None else NOTES + OFFICIAL_NOTES
    blocks: list[Block] = [table, Notes(notes)]
    if any(task_scores(row, reference) for row in ours.values()):
        scale = OTHER_SCALE if published is None else OFFICIAL_SCALE
        text = DRAWN.format(scale)
        blocks += _bars(ours, theirs, reference, numbers=numbers, text=text)
    return Section(TITLE, blocks, level=level)


def row_of(results: Sequence[ProbeResult], reference: Reference) -> Row:
    """Means over seeds of one upstream, of figures that all runs of a task have."""
    row: dict[str, dict[str, float]] = {}
    for task, figures in reference.items():
        runs = [r for r in results if r.task == task]
        row[task] = {
            name: mean(r.metrics[name] for r in runs)
            for name in figures
            if runs and all(name in r.metrics for r in runs)
        }
    return row


def _published_rows(published: Published) -> dict[str, Row]:
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for task, figures in published.items():
        for figure, values in figures.items():
            for name, value in values.items():
                rows.setdefault(name, {}).setdefault(task, {})[figure] = value
    return dict(rows)


def _cells(name: Cell, row: Row, reference: Reference) -> list[Cell]:
    score, average = superb_s(row, reference), plain_mean(row, reference)
    if score is None or average is None:
        lacking = ", ".join(missing(row, reference))
        return [name, Cell(f"incomplete: missing {lacking}"), Cell("-")]
    return [name, Cell(f"{score:.1f}"), Cell(f"{average:.1f}")]


def _bars(
    ours: Mapping[str, Row],
    theirs: Mapping[str, Row],
    reference: Reference,
    *,
    numbers: Mapping[str, int],
    text: str,
) -> list[Block]:
    def by_task(rows: Mapping[str, Row]) -> dict[str, dict[str, float]]:
        scores = {name: task_scores(row, reference) for name, row in rows.items()}
        found = {
            task: {name: own[task] for name, own in scores.items() if task in own}
            for task in reference
        }
        return {task: values for task, values in found.items() if values}

    both = {name: row for name, row in theirs.items() if name in ours}
    text += " ◇: published for the same upstream." if both else ""
    scores = by_task(ours)
    shown = {name for values in scores.values() for name in values}
    bars = Bars("superb_s by task", scores, by_task(both))
    return [text, Pictures([bars], {n: i for n, i in numbers.items() if n in shown})]
