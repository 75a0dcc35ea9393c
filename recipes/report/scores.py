# SPDX-License-Identifier: Apache-2.0
"""Figures of many runs: their mean and spread, which way is better, which one is best."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.downstream.results import ProbeResult
from wavlm_lightning.downstream.results import best_on_test as best_name
from wavlm_lightning.recipes.report.superb_score import ERRORS, Reference

KINDS = {
    "official": "SUPERB, official corpora",
    "mini": "Synthetic mini corpora: not comparable with published scores",
    "manifest": "Manifest folders: not comparable with published scores",
}
NOTHING = "learning nothing"  # name of the row of what needs no training
Published = dict[str, dict[str, dict[str, float]]]  # task -> figure -> upstream
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


@dataclass(frozen=True)
class Score:
    """Mean over seeds; the sample standard deviation, None for one seed; how many."""

    mean: float
    spread: float | None
    count: int

    def text(self, digits: int, *, count: bool = True) -> str:
        """Text of a score in tables.

        >>> Score(12.34, 0.81, 3).text(1)
        '12.3 ± 0.8 (3)'
        >>> Score(12.34, None, 1).text(2, count=False)
        '12.34'
        """
        spread = "" if self.spread is None else f" ± {self.spread:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}" + (f" ({self.count})" if count else "")


def score_of(values: Sequence[float]) -> Score:
    """Mean and spread over seeds.

    >>> score_of([1.0, 2.0, 3.0])
    Score(mean=2.0, spread=1.0, count=3)
    """
    return Score(mean(values), stdev(values) if len(values) > 1 else None, len(values))


def winner(scores: Mapping[str, Score], mode: str) -> str | None:
    """Name of the score that beats each other one by more than the sum of the two spreads.

    None without others, where a spread is unknown, or where `mode` is neither "min" nor "max".

    >>> winner({"a": Score(10.0, 1.0, 3), "b": Score(13.0, 1.5, 3)}, "min")
    'a'
    >>> winner({"a": Score(10.0, 1.0, 3), "b": Score(12.0, 1.5, 3)}, "min")
    """
    if len(scores) < 2 or mode not in ("min", "max"):
        return None
    sign = 1 if mode == "max" else -1
    first = max(scores, key=lambda name: sign * scores[name].mean)
    for name, other in scores.items():
        ours, theirs = scores[first].spread, other.spread
        if name == first:
            continue
        if ours is None or theirs is None:
            return None
        if sign * (scores[first].mean - other.mean) <= ours + theirs:
            return None
    return first


@dataclass(frozen=True)
class Column:
    """A task as a column of a table: which figure, in what unit, which way is better."""

    task: str
    headline: str
    corpus: str  # the task's official one, as in `paths.<corpus>`
    unit: str
    mode: str  # "min", "max", or "" if it is not known
    second: bool = False  # beside the headline, and older results may lack it

    @property
    def figure(self) -> str:
        """The headline without its split.

        >>> Column("asv", "test/eer", "voxceleb1", "%", "min").figure
        'eer'
        """
        return self.headline.rpartition("/")[2]

    @property
    def title(self) -> str:
        """Task, figure, unit and arrow.

        >>> Column("asv", "test/eer", "voxceleb1", "%", "min").title
        'asv: eer (%) ↓'
        """
        unit = f" ({self.unit})" if self.unit else ""
        arrow = {"min": " ↓", "max": " ↑"}.get(self.mode, "")
        return f"{self.task}: {self.figure}{unit}{arrow}"

    @property
    def digits(self) -> int:
        """Decimals of a score that is measured on little."""
        return {"%": 1, "dB": 2}.get(self.unit, 4)


def columns_of(tasks: Iterable[str], results: Sequence[ProbeResult]) -> list[Column]:
    """Columns of tasks, one for each figure that is a headline; of a task that is no longer there,
    from its results."""
    found = []
    for task in sorted(set(tasks)):
        if task in task_names():
            kind = load_task(task)
            for headline in sorted({shown_as(r) for r in results if r.task == task}) or [
                kind.headline
            ]:
                found.append(Column(task, headline, kind.corpus, kind.unit, kind.headline_mode))
        else:
            one = next(r for r in results if r.task == task)
            found.append(Column(task, one.headline, one.corpus, "", one.mode))
    return found


def with_second_figures(columns: Iterable[Column], reference: Reference) -> list[Column]:
    """The same, each followed by other figures of its task that superb_s goes by."""
    found = []
    for column in columns:
        found.append(column)
        for name in reference.get(column.task, {}):
            if name != column.headline:
                mode = "min" if name.endswith(ERRORS) else "max"
                found.append(replace(column, headline=name, mode=mode, second=True))
    return found


def shown_as(result: ProbeResult) -> str:
    """The headline in whose column a run stands, also if it has only the best of it on test."""
    return re.sub(r"_best_of_\d+_test$", "", result.headline)


def value_of(result: ProbeResult, headline: str) -> float:
    """A figure of a run; the best of it on test, if it has no other.

    Raises:
        ValueError: naming the run, if it has no such figure.
    """
    if headline not in result.metrics:
        if (best := best_on_test(result, headline)) is not None:
            return best
        raise ValueError(
            f"the result of {result.task} on {result.upstream} with seed {result.seed} has no "
            f"{headline}: run the task again, or remove the file"
        )
    return result.metrics[headline]


def best_on_test(result: ProbeResult, headline: str) -> float | None:
    """The headline as it would be if test chose, where a run has that too."""
    name = best_name(result.metrics, headline)
    return None if name is None else result.metrics[name]


def trivial_cell(results: Sequence[ProbeResult], column: Column) -> str:
    """What learns nothing reaches in a column: from the least to the most where upstreams differ,
    "-" if it is not known."""
    rows = [r for r in results if r.task == column.task and column.headline in r.trivial]
    values = sorted(r.trivial[column.headline] for r in rows)
    if not values:
        return "-"
    ends = [f"{value:.{column.digits}f}" for value in (values[0], values[-1])]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def trivial_answers(results: Iterable[ProbeResult]) -> list[str]:
    """Which answer that is, a line for each kind of answer."""
    tasks: dict[str, list[str]] = {}
    for r in results:
        if r.trivial_answer and r.task not in tasks.setdefault(r.trivial_answer, []):
            tasks[r.trivial_answer].append(r.task)
    return [f"{NOTHING}, {', '.join(own)}: {answer}" for answer, own in tasks.items()]


def by_variant(result: ProbeResult, headline: str) -> dict[str, float]:
    """The headline of folds, languages or the like."""
    prefix = f"{headline}."
    return {k.removeprefix(prefix): v for k, v in result.metrics.items() if k.startswith(prefix)}


def upstream_order(name: str) -> tuple[int, str]:
    """Sorts upstreams: FBANK, those never trained, then by name.

    >>> sorted(["wavlm_base", "hubert_base", "random", "fbank"], key=upstream_order)
    ['fbank', 'random', 'hubert_base', 'wavlm_base']
    """
    if name == "fbank":
        return (0, name)
    return (1 if name.startswith("random") else 2, name)


def runs_of(results: Sequence[ProbeResult], upstream: str, column: Column) -> list[ProbeResult]:
    """Those of a column's task on an upstream; of a second figure, those that have it."""
    runs = [r for r in results if r.upstream == upstream and r.task == column.task]
    if column.second:
        return [r for r in runs if column.headline in r.metrics]
    return [r for r in runs if shown_as(r) == column.headline]


def results_of(results: Sequence[ProbeResult], upstream: str) -> list[ProbeResult]:
    """Those on an upstream."""
    return [r for r in results if r.upstream == upstream]


def upstreams_of(results: Sequence[ProbeResult]) -> list[str]:
    """Their names in the order of tables."""
    return sorted({r.upstream for r in results}, key=upstream_order)
