# SPDX-License-Identifier: Apache-2.0
"""What the results of all runs say, as sections of plain text, tables and numbers to draw.

`recipes.report` writes them as Markdown, `recipes.report.html` as HTML; nothing here is escaped.
"""

from collections.abc import Sequence
from typing import Any

from wavlm_lightning.config import read_yaml
from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.downstream.results import ProbeResult
from wavlm_lightning.recipes.report.charts import confusions, curves, trades, weights
from wavlm_lightning.recipes.report.report_blocks import Block, Cell, Notes, Section, Table
from wavlm_lightning.recipes.report.scoreboard import row_of, scoreboard
from wavlm_lightning.recipes.report.scores import (
    KINDS,
    NOTHING,
    PAPER_NAMES,
    Column,
    Published,
    best_on_test,
    columns_of,
    results_of,
    runs_of,
    score_of,
    trivial_answers,
    trivial_cell,
    upstream_order,
    upstreams_of,
    value_of,
    winner,
    with_second_figures,
)
from wavlm_lightning.recipes.report.superb_score import Reference, missing, read_reference
from wavlm_lightning.recipes.report.table_notes import (
    departures,
    missing_runs,
    run_notes,
    short,
    upstream_hash,
)
from wavlm_lightning.shipped import command, config_file

MISSING = "missing"
BOLD_RULE = (
    "Mean ± sample standard deviation over seeds (number of seeds). Bold: better than every other "
    "one of its column by more than the sum of the two spreads; with one seed there is no spread, "
    "and nothing is bold."
)


def summarize(results: Sequence[ProbeResult]) -> list[Section]:
    """All sections, from results and the published scores in configs/superb.

    Raises:
        ValueError: naming a result that no table can hold.
    """
    for r in results:
        if r.kind not in KINDS:
            raise ValueError(
                f"the result of {r.task} on {r.upstream} has kind {r.kind}; there are "
                f"{', '.join(KINDS)}"
            )
    results = sorted(results, key=lambda r: (upstream_order(r.upstream), r.task, r.corpus, r.seed))
    protocols = {task: read_yaml(config_file("superb", f"{task}.yaml")) for task in task_names()}
    official = [r for r in results if r.kind == "official"]
    mini = [r for r in results if r.kind == "mini"]
    reference, published = read_reference(), _published(protocols)
    numbers = {name: i for i, name in enumerate(upstreams_of(results))}
    papers = [
        _official(official, protocols, reference),
        scoreboard(official, reference, numbers=numbers, published=published),
    ]
    sections = papers if official else []
    if mini:
        sections.append(Section(KINDS["mini"], _unpublished(mini, reference)))
        sections.append(scoreboard(mini, reference, numbers=numbers))
    if corpora := sorted({r.corpus for r in results if r.kind == "manifest"}):
        sections.append(Section(KINDS["manifest"]))
        for corpus in corpora:
            rows = [r for r in results if r.kind == "manifest" and r.corpus == corpus]
            sections.append(Section(corpus, _unpublished(rows, reference), level=3))
            # Few folders serve ten tasks: without one row that has them all there is no score.
            if any(not missing(row_of(own, reference), reference) for own in _by_upstream(rows)):
                sections.append(scoreboard(rows, reference, numbers=numbers, level=4))
    if not official:  # what there is of one's own comes first
        sections += papers
    sections += [*weights(results), curves(results, numbers)]
    sections += [*confusions(results), *trades(results, numbers)]
    return [*sections, _provenance(results)]


def _by_upstream(results: list[ProbeResult]) -> list[list[ProbeResult]]:
    return [results_of(results, name) for name in upstreams_of(results)]


def _published(protocols: dict[str, dict[str, Any]]) -> Published:
    """Published scores of the headline and of further metrics."""
    return {
        task: {
            load_task(task).headline: values.get("published", {}),
            **values.get("published_also", {}),
        }
        for task, values in protocols.items()
    }


def _official(
    results: list[ProbeResult], protocols: dict[str, dict[str, Any]], reference: Reference
) -> Section:
    tasks = columns_of([*protocols, *(r.task for r in results)], results)
    columns = with_second_figures(tasks, reference)
    published = _published(protocols)
    ours = upstreams_of(results)
    papers = {
        name for scores in published.values() for values in scores.values() for name in values
    }
    rows = [_trivial_row(results, columns)] if results else []
    for name in sorted({*ours, *papers}, key=upstream_order):
        if name in ours:
            rows.append([Cell(name), *(_official_cell(results, name, c) for c in columns)])
        if name in papers:
            values = [published.get(c.task, {}).get(c.headline, {}).get(name) for c in columns]
            cells = [_paper_cell(v, c) for v, c in zip(values, columns, strict=True)]
            rows.append([Cell(f"{PAPER_NAMES.get(name, name)} (paper)", paper=True), *cells])
    on_test = [name for name in protocols if load_task(name).published_on_test]
    notes = [
        "¹ The best of several checkpoints or settings, chosen on test, as the published scores of "
        f"{' and '.join(on_test)} were. Our first figure is chosen on dev: compare only the "
        "figures marked ¹ with each other.",
        "↓ lower is better, ↑ higher is better; -: no published score in configs/superb.",
    ]
    table = Table(["upstream", *(c.title for c in columns)], rows)
    if not results:
        first = tasks[0]
        text = (
            "There are no results on official corpora yet, so only published scores stand here. "
            f"{command()} superb TASK={first.task} UPSTREAM=wavlm_base paths.{first.corpus}=DIR "
            "makes one."
        )
        return Section(KINDS["official"], [text, table, Notes(notes)])
    notes += trivial_answers(results)
    notes += missing_runs(results, tasks) + departures(results, protocols)
    notes += run_notes(results, tasks)
    return Section(KINDS["official"], [table, Notes(notes)])


def _trivial_row(results: list[ProbeResult], columns: list[Column]) -> list[Cell]:
    return [Cell(NOTHING), *(Cell(trivial_cell(results, c)) for c in columns)]


def _official_cell(results: list[ProbeResult], upstream: str, column: Column) -> Cell:
    runs = runs_of(results, upstream, column)
    if not runs:
        return Cell(MISSING)
    digits, parts = max(2, column.digits), []
    if own := [r.metrics[column.headline] for r in runs if column.headline in r.metrics]:
        parts.append(score_of(own).text(digits, count=len(own) > 1))
    chosen = [best_on_test(r, column.headline) for r in runs]
    if known := [value for value in chosen if value is not None]:
        parts.append(f"{score_of(known).text(digits, count=len(known) != (len(own) or 1))} ¹")
    return Cell("; ".join(parts))


def _paper_cell(value: float | None, column: Column) -> Cell:
    if value is None:
        return Cell("-", paper=True)
    mark = " ¹" if load_task(column.task).published_on_test else ""
    return Cell(f"{value:.{max(2, column.digits)}f}{mark}", paper=True)


def _unpublished(results: list[ProbeResult], reference: Reference) -> list[Block]:
    """Table and notes of a corpus that no paper has scores for."""
    tasks = columns_of((r.task for r in results), results)
    columns = with_second_figures(tasks, reference)
    upstreams = upstreams_of(results)
    scores = {
        c.title: {
            u: score_of([value_of(r, c.headline) for r in runs])
            for u in upstreams
            if (runs := runs_of(results, u, c))
        }
        for c in columns
    }
    best = {c.title: winner(scores[c.title], c.mode) for c in columns}
    rows = [_trivial_row(results, columns)]
    for upstream in upstreams:
        cells = [Cell(upstream)]
        for c in columns:
            score = scores[c.title].get(upstream)
            text = score.text(c.digits) if score else MISSING
            cells.append(Cell(text, bold=best[c.title] == upstream))
        rows.append(cells)
    notes = [BOLD_RULE, *trivial_answers(results)]
    notes += missing_runs(results, tasks) + run_notes(results, tasks)
    return [Table(["upstream", *(c.title for c in columns)], rows), Notes(notes)]


def _provenance(results: list[ProbeResult]) -> Section:
    titles = {c.task: c for c in columns_of((r.task for r in results), results)}
    rows = []
    for kind in KINDS:
        for r in (r for r in results if r.kind == kind):
            column = titles[r.task]
            digits = max(2, column.digits)
            score = f"{r.headline.rpartition('/')[2]} {r.metrics[r.headline]:.{digits}f}"
            about = [r.upstream, r.task, _corpus(r, column), str(r.seed), score, r.selected_on]
            about += [short(r.commit), upstream_hash(r), r.checkpoint_sha256[:8]]
            about += [
                f"{r.seconds:.0f}",
                f"{r.counts['test_utterances']:.0f}"
                if "test_utterances" in r.counts
                else "unknown",
            ]
            rows.append([Cell(text) for text in about])
    header = ["upstream", "task", "corpus", "seed", "score", "selected on", "commit"]
    header += ["upstream hash", "checkpoint hash", "seconds", "test utterances"]
    return Section("Where the numbers come from", [Table(header, rows)])


def _corpus(result: ProbeResult, column: Column) -> str:
    return result.corpus if result.kind == "manifest" else f"{result.kind} {column.corpus}"
