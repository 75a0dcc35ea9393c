# SPDX-License-Identifier: Apache-2.0
"""What results give to draw: layer weights, learning curves, confusions, error rates."""

from collections.abc import Mapping, Sequence
from statistics import mean

from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.downstream.results import ProbeResult
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.recipes.report.report_blocks import (
    Block,
    Confusion,
    Curves,
    DetCurves,
    ErrorRates,
    LayerWeights,
    Picture,
    Pictures,
    Section,
)
from wavlm_lightning.recipes.report.scores import KINDS, results_of, upstreams_of, value_of

Numbers = Mapping[str, int]  # upstream -> its colour


def weights(results: Sequence[ProbeResult]) -> list[Section]:
    """Layer weights, mean over seeds; one heat map an upstream and kind of corpus."""
    sections = [Section("Layer weights")]
    bare = [
        u for u in upstreams_of(results) if not any(r.layer_weights for r in results_of(results, u))
    ]
    for kind in KINDS:
        runs = [r for r in results if r.kind == kind and r.layer_weights]
        blocks: list[Block] = []
        for upstream in upstreams_of(runs):
            rows: dict[str, list[list[float]]] = {}
            for r in results_of(runs, upstream):
                # Runs of another depth, or of one chosen layer, have a row of their own.
                depth = f", {len(r.layer_weights)} layers"
                rows.setdefault(_row(r) + depth, []).append(r.layer_weights)
            if len({name.rpartition(",")[2] for name in rows}) == 1:
                rows = {name.rpartition(",")[0]: values for name, values in rows.items()}
            means = [[mean(w) for w in zip(*seeds, strict=True)] for seeds in rows.values()]
            blocks.append(LayerWeights(upstream, list(rows), means))
        if blocks:
            sections.append(Section(KINDS[kind], blocks, level=3))
    text = "Mean over seeds; layer 0 enters the first block."
    if any(r.layer_weights and not _trains(r) for r in results):
        text += (
            " A row that says (chosen) holds no trained weights: the task trains nothing, and 1 "
            "stands at the layer that was best on dev."
        )
    if bare:
        text += f" Without weights, having one layer: {', '.join(bare)}."
    sections[0].blocks.append(text)
    return sections


def curves(results: Sequence[ProbeResult], numbers: Numbers) -> Section:
    """The figure that selects, by update; of tasks that train nothing, by layer."""
    pictures: list[Picture] = []
    for kind in KINDS:
        keys = sorted({(r.task, r.corpus) for r in results if r.kind == kind})
        for task, corpus in keys:
            runs = [r for r in results if (r.kind, r.task, r.corpus) == (kind, task, corpus)]
            lines: dict[str, list[list[tuple[int, float]]]] = {}
            for r in runs:
                if curve := _mean_curve(r):
                    lines.setdefault(r.upstream, []).append(curve)
            if lines:
                across = "update" if _trains(runs[0]) else "layer"
                title, figure = f"{task}, {corpus}", runs[0].selected_on
                pictures.append(Curves(title, figure, across, lines))
    title = "Learning curves"
    if not pictures:
        return Section(title, ["No run has any."])
    text = (
        "The figure on dev that selects the checkpoint, or the layer where a task trains nothing; "
        "mean over variants, one thin line a seed."
    )
    return Section(title, [text, Pictures(pictures, dict(numbers))])


def _mean_curve(result: ProbeResult) -> list[tuple[int, float]]:
    """Mean over variants at the updates that all of them have."""
    each = [
        {update: value for update, value in curves[result.selected_on]}
        for curves in result.curves.values()
        if curves.get(result.selected_on)
    ]
    common = sorted(set.intersection(*map(set, each))) if each else []
    return [(update, mean(curve[update] for curve in each)) for update in common]


def confusions(results: Sequence[ProbeResult]) -> list[Section]:
    """What was taken for what, summed over seeds; nothing where no result has it."""
    sections = []
    for kind in KINDS:
        found: dict[tuple[str, str, tuple[str, ...]], list[list[int]]] = {}
        for r in (r for r in results if r.kind == kind):
            for matrix in r.drawn.get("confusion", []):
                slot = f" ({matrix['title']})" if matrix["title"] else ""
                key = (f"{_place(r)}{slot}", r.upstream, tuple(matrix["classes"]))
                found[key] = _added(found.get(key), matrix["counts"])
        pictures: list[Picture] = [
            Confusion(f"{place}, {upstream}", list(classes), found[place, upstream, classes])
            for place, upstream, classes in sorted(found, key=lambda key: key[0])
        ]
        if pictures:
            sections.append(Section(KINDS[kind], [Pictures(pictures)], level=3))
    text = (
        "Of each hundred test utterances of a class (a row), how many were taken for which one; "
        "all seeds together. In brackets: utterances of the class. Empty: less than half of one."
    )
    return [Section("Confusions", [text]), *sections] if sections else []


def _added(sums: list[list[int]] | None, counts: list[list[int]]) -> list[list[int]]:
    if sums is None:
        return counts
    rows = zip(sums, counts, strict=True)
    return [[a + b for a, b in zip(*row, strict=True)] for row in rows]


def trades(results: Sequence[ProbeResult], numbers: Numbers) -> list[Section]:
    """Misses against false alarms, one picture a corpus; nothing where no result has it."""
    found: dict[tuple[str, str, str], dict[str, list[ErrorRates]]] = {}
    for kind in KINDS:
        for r in (r for r in results if r.kind == kind and "det" in r.drawn):
            det = r.drawn["det"]
            one = ErrorRates(det["misses"], det["false_alarms"], value_of(r, r.headline))
            lines = found.setdefault((kind, r.task, r.corpus), {})
            lines.setdefault(r.upstream, []).append(one)
    if not found:
        return []
    text = (
        "Of trials of one speaker, how many are missed; of trials of two, how many accepted: "
        "at each threshold, so nearer to the lower left is better. Axes are normal deviates. The "
        "dot is the equal error rate; one thin line a seed."
    )
    pictures: list[Picture] = [
        DetCurves(f"{task}, {corpus}", lines) for (_, task, corpus), lines in found.items()
    ]
    shown = {name for lines in found.values() for name in lines}
    keys = {name: number for name, number in numbers.items() if name in shown}
    return [Section("Misses against false alarms (DET)", [text, Pictures(pictures, keys)])]


def _place(result: ProbeResult) -> str:
    return f"{result.task} {result.corpus}" if result.kind == "manifest" else result.task


def _row(result: ProbeResult) -> str:
    return _place(result) if _trains(result) else f"{_place(result)} (chosen)"


def _trains(result: ProbeResult) -> bool:
    return result.task not in task_names() or issubclass(load_task(result.task), TrainedTask)
