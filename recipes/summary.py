# SPDX-License-Identifier: Apache-2.0
"""What the results of all runs say, as sections of plain text, tables and numbers to draw.

`recipes.table` writes them as Markdown, `recipes.report` as HTML; nothing here is escaped.
"""

from collections.abc import Callable, Sequence
from shlex import quote
from statistics import mean
from typing import Any

from downstream import load_task, task_names
from downstream.results import ProbeResult
from recipes.blocks import Block, Cell, Curves, Heat, Notes, Panel, Section, Table
from recipes.probe_settings import CONFIGS
from recipes.scores import (
    Column,
    best_on_test,
    by_variant,
    columns_of,
    score_of,
    upstream_order,
    value_of,
    winner,
)
from wavlm_lightning.config import flat, read_yaml

KINDS = {
    "official": "SUPERB, official corpora",
    "mini": "Synthetic mini corpora: not comparable with published scores",
    "manifest": "Manifest folders: not comparable with published scores",
}
PAPER_NAMES = {
    "fbank": "FBANK",
    "wav2vec2_base": "wav2vec 2.0 Base",
    "wav2vec2_large": "wav2vec 2.0 Large",
    "hubert_base": "HuBERT Base",
    "hubert_large": "HuBERT Large",
    "wavlm_base": "WavLM Base",
    "wavlm_base_plus": "WavLM Base+",
    "wavlm_large": "WavLM Large",
}
MISSING = "missing"
BOLD_RULE = (
    "Mean ± sample standard deviation over seeds (number of seeds). Bold: better than every other "
    "one of its column by more than the sum of the two spreads; with one seed there is no spread, "
    "and nothing is bold."
)
# What makes scores of one column hard to compare.
DIFFERENCES: dict[str, Callable[[ProbeResult], Any]] = {
    "budgets": lambda r: _and(r.config.get("optim.total_updates"), "updates"),
    "protocols": lambda r: r.config.get("protocol"),
    "commits": lambda r: short(r.commit),
    "numbers of test utterances": lambda r: r.counts.get("test_utterances"),
    "numbers of variants": lambda r: len(r.best),
    "folders": lambda r: r.config.get("data.manifest"),
}


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
    protocols = {task: read_yaml(CONFIGS / "superb" / f"{task}.yaml") for task in task_names()}
    official = [r for r in results if r.kind == "official"]
    mini = [r for r in results if r.kind == "mini"]
    sections = [_official(official, protocols)]
    if mini:
        sections.append(Section(KINDS["mini"], _unpublished(mini)))
    if corpora := sorted({r.corpus for r in results if r.kind == "manifest"}):
        sections.append(Section(KINDS["manifest"]))
        for corpus in corpora:
            rows = [r for r in results if r.kind == "manifest" and r.corpus == corpus]
            sections.append(Section(corpus, _unpublished(rows), level=3))
    return [*sections, *_weights(results), _curves(results), _provenance(results)]


def _official(results: list[ProbeResult], protocols: dict[str, dict[str, Any]]) -> Section:
    columns = columns_of([*protocols, *(r.task for r in results)], results)
    published = {task: values.get("published", {}) for task, values in protocols.items()}
    ours = _upstreams(results)
    papers = {name for scores in published.values() for name in scores}
    rows = []
    for name in sorted({*ours, *papers}, key=upstream_order):
        if name in ours:
            rows.append([Cell(name), *(_official_cell(results, name, c) for c in columns)])
        if name in papers:
            cells = [_paper_cell(published.get(c.task, {}).get(name), c) for c in columns]
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
        first = columns[0]
        text = (
            "There are no results on official corpora yet, so only published scores stand here. "
            f"make superb TASK={first.task} UPSTREAM=wavlm_base paths.{first.corpus}=DIR makes one."
        )
        return Section(KINDS["official"], [text, table, Notes(notes)])
    notes += _missing(results, columns) + _departures(results, protocols)
    notes += _notes(results, columns)
    return Section(KINDS["official"], [table, Notes(notes)])


def _official_cell(results: list[ProbeResult], upstream: str, column: Column) -> Cell:
    runs = _runs(results, upstream, column)
    if not runs:
        return Cell(MISSING)
    score = score_of([value_of(r, column.headline) for r in runs])
    digits = max(2, column.digits)
    text = score.text(digits, count=score.count > 1)
    chosen = [best_on_test(r, column.headline) for r in runs]
    known = [value for value in chosen if value is not None]
    if known:
        text += f"; {score_of(known).text(digits, count=len(known) != len(runs))} ¹"
    return Cell(text)


def _paper_cell(value: float | None, column: Column) -> Cell:
    if value is None:
        return Cell("-", paper=True)
    mark = " ¹" if load_task(column.task).published_on_test else ""
    return Cell(f"{value:.{max(2, column.digits)}f}{mark}", paper=True)


def _missing(results: list[ProbeResult], columns: list[Column]) -> list[str]:
    """What to run for the cells that are empty; official corpora want their folder."""
    lines = []
    for upstream in _upstreams(results):
        tasks = [c for c in columns if not _runs(results, upstream, c)]
        if tasks:
            one = _of(results, upstream)[0]
            word = upstream
            if not (CONFIGS / "upstream" / f"{upstream}.yaml").is_file():
                word = str(one.config.get("upstream.source") or upstream)
            command = f"make superb TASK={tasks[0].task} UPSTREAM={quote(word)}"
            if one.kind == "official":
                command += f" paths.{tasks[0].corpus}=DIR"
            elif one.kind == "manifest":
                command += f" data.manifest={quote(str(one.config.get('data.manifest') or 'DIR'))}"
            lines.append(f"missing: {', '.join(c.task for c in tasks)} on {upstream}: {command}")
    return lines


def _departures(results: list[ProbeResult], protocols: dict[str, dict[str, Any]]) -> list[str]:
    """Where runs on official corpora are not what configs/superb says, or tested on a part."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for r in results:
        protocol = protocols.get(r.task, {})
        stated = flat({k: protocol[k] for k in ("task", "data", "optim") if k in protocol})
        other = [
            f"{key} {r.config[key]} in place of {value}"
            for key, value in stated.items()
            if key in r.config and r.config[key] != value
        ]
        limits = ("trainer.limit_test_batches", "trainer.limit_val_batches")
        other += [f"{key} {r.config[key]}" for key in limits if r.config.get(key) is not None]
        if other:
            seeds.setdefault((f"{r.task} on {r.upstream}", ", ".join(other)), []).append(r.seed)
    return [
        f"not as configs/superb says: {where}, seed {', '.join(map(str, numbers))}: {what}"
        for (where, what), numbers in seeds.items()
    ]


def _unpublished(results: list[ProbeResult]) -> list[Block]:
    """Table and notes of a corpus that no paper has scores for."""
    columns = columns_of((r.task for r in results), results)
    upstreams = _upstreams(results)
    scores = {
        c.task: {
            u: score_of([value_of(r, c.headline) for r in runs])
            for u in upstreams
            if (runs := _runs(results, u, c))
        }
        for c in columns
    }
    best = {c.task: winner(scores[c.task], c.mode) for c in columns}
    rows = []
    for upstream in upstreams:
        cells = [Cell(upstream)]
        for c in columns:
            score = scores[c.task].get(upstream)
            text = score.text(c.digits) if score else MISSING
            cells.append(Cell(text, bold=best[c.task] == upstream))
        rows.append(cells)
    notes = [BOLD_RULE, *_missing(results, columns), *_notes(results, columns)]
    return [Table(["upstream", *(c.title for c in columns)], rows), Notes(notes)]


def _notes(results: list[ProbeResult], columns: list[Column]) -> list[str]:
    """Scores of variants, then whatever makes scores of a column or row hard to compare."""
    lines = []
    for c in columns:
        for upstream in _upstreams(results):
            values: dict[str, list[float]] = {}
            for r in _runs(results, upstream, c):
                for variant, value in by_variant(r, c.headline).items():
                    values.setdefault(variant, []).append(value)
            if values:
                means = ", ".join(f"{v} {mean(s):.{c.digits}f}" for v, s in values.items())
                lines.append(f"{c.task} on {upstream} by variant, mean over seeds: {means}")
    return lines + _differences(results)


def _differences(results: list[ProbeResult]) -> list[str]:
    """Where a column or row does not hold the same thing throughout; equal lines are one.

    Commits "abc+changes" of the same name may still differ: nothing tells them apart.
    """
    tasks_of: dict[str, list[str]] = {}
    for what, read in DIFFERENCES.items():
        for task in dict.fromkeys(r.task for r in results):
            found: dict[str, dict[str, None]] = {}
            for r in (r for r in results if r.task == task):
                value = read(r)
                found.setdefault("none" if value is None else str(value), {})[r.upstream] = None
            if len(found) > 1:
                parts = (f"{value} ({', '.join(who)})" for value, who in found.items())
                tasks_of.setdefault(f"different {what}: {', '.join(parts)}", []).append(task)
    lines = [f"{', '.join(tasks)}: {text}" for text, tasks in tasks_of.items()]
    for upstream in _upstreams(results):
        runs = [r for r in results if r.upstream == upstream]
        models: dict[str, dict[str, None]] = {}
        for r in runs:
            models.setdefault(_upstream_hash(r), {})[r.task] = None
        if len(models) > 1:
            parts = (f"{value} ({', '.join(tasks)})" for value, tasks in models.items())
            lines.append(f"{upstream}: different upstream checkpoints: {', '.join(parts)}")
        keys = [(r.task, r.seed) for r in runs]
        for task, seed in sorted({key for key in keys if keys.count(key) > 1}):
            lines.append(f"{task} on {upstream}: seed {seed} is there more than once, all counted")
    return lines


def _weights(results: list[ProbeResult]) -> list[Section]:
    """Layer weights, mean over seeds; one heat map an upstream and kind of corpus."""
    sections = [Section("Layer weights")]
    bare = [u for u in _upstreams(results) if not any(r.layer_weights for r in _of(results, u))]
    for kind in KINDS:
        runs = [r for r in results if r.kind == kind and r.layer_weights]
        blocks: list[Block] = []
        for upstream in _upstreams(runs):
            rows: dict[str, list[list[float]]] = {}
            for r in _of(runs, upstream):
                # Runs of another depth, or of one chosen layer, have a row of their own.
                depth = f", {len(r.layer_weights)} layers"
                rows.setdefault(_row(r) + depth, []).append(r.layer_weights)
            if len({name.rpartition(",")[2] for name in rows}) == 1:
                rows = {name.rpartition(",")[0]: weights for name, weights in rows.items()}
            means = [[mean(w) for w in zip(*seeds, strict=True)] for seeds in rows.values()]
            blocks.append(Heat(upstream, list(rows), means))
        if blocks:
            sections.append(Section(KINDS[kind], blocks, level=3))
    text = "Mean over seeds; layer 0 enters the first block."
    if bare:
        text += f" Without weights, having one layer: {', '.join(bare)}."
    sections[0].blocks.append(text)
    return sections


def _curves(results: list[ProbeResult]) -> Section:
    panels = []
    for kind in KINDS:
        keys = sorted({(r.task, r.corpus) for r in results if r.kind == kind})
        for task, corpus in keys:
            runs = [r for r in results if (r.kind, r.task, r.corpus) == (kind, task, corpus)]
            lines: dict[str, list[list[tuple[int, float]]]] = {}
            for r in runs:
                if curve := _mean_curve(r):
                    lines.setdefault(r.upstream, []).append(curve)
            if lines:
                panels.append(Panel(f"{task}, {corpus}", runs[0].selected_on, lines))
    title = "Learning curves"
    if not panels:
        return Section(title, ["No run has any."])
    text = (
        "The figure on dev that selects the checkpoint; mean over variants, one thin line a seed."
    )
    return Section(title, [text, Curves(_upstreams(results), panels)])


def _mean_curve(result: ProbeResult) -> list[tuple[int, float]]:
    """Mean over variants at the updates that all of them have."""
    each = [
        {update: value for update, value in curves[result.selected_on]}
        for curves in result.curves.values()
        if curves.get(result.selected_on)
    ]
    common = sorted(set.intersection(*map(set, each))) if each else []
    return [(update, mean(curve[update] for curve in each)) for update in common]


def _provenance(results: list[ProbeResult]) -> Section:
    titles = {c.task: c for c in columns_of((r.task for r in results), results)}
    rows = []
    for kind in KINDS:
        for r in (r for r in results if r.kind == kind):
            column = titles[r.task]
            score = f"{column.figure} {value_of(r, column.headline):.{max(2, column.digits)}f}"
            about = [r.upstream, r.task, _corpus(r, column), str(r.seed), score, r.selected_on]
            about += [short(r.commit), _upstream_hash(r), r.checkpoint_sha256[:8]]
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


def _row(result: ProbeResult) -> str:
    return f"{result.task} {result.corpus}" if result.kind == "manifest" else result.task


def _runs(results: list[ProbeResult], upstream: str, column: Column) -> list[ProbeResult]:
    return [r for r in results if r.upstream == upstream and r.task == column.task]


def _of(results: Sequence[ProbeResult], upstream: str) -> list[ProbeResult]:
    return [r for r in results if r.upstream == upstream]


def _upstreams(results: Sequence[ProbeResult]) -> list[str]:
    return sorted({r.upstream for r in results}, key=upstream_order)


def _upstream_hash(result: ProbeResult) -> str:
    return str(result.config.get("upstream.sha256") or "none")[:8]


def _and(value: Any, unit: str) -> str | None:
    return None if value is None else f"{value} {unit}"


def short(commit: str) -> str:
    """A commit in eight characters, with what says that files differed from it.

    >>> short("a2e8dac31d67ca4cd2b43fdb164645895a20a87f+changes")
    'a2e8dac3+changes'
    """
    name, plus, rest = commit.partition("+")
    return f"{name[:8]}{plus}{rest}"
