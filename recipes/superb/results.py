# SPDX-License-Identifier: Apache-2.0
"""From what a task's heads left to its results: which head counts, one file a seed, the summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from wavlm_lightning.config import flat
from wavlm_lightning.downstream.results import write_probe_result
from wavlm_lightning.downstream.task import Task
from wavlm_lightning.files import read_json
from wavlm_lightning.recipes.run.folder import RESULT, point_to
from wavlm_lightning.recipes.superb.evaluation import Outcome
from wavlm_lightning.recipes.superb.heads import Head, best_rate
from wavlm_lightning.recipes.superb.settings import TaskSettings, stem
from wavlm_lightning.recipes.superb.training import Outcomes
from wavlm_lightning.shipped import command

Variants = Mapping[str, Outcomes]


@dataclass(frozen=True)
class Finished:
    """A task whose variants are all done.

    Args:
        settings: of the run.
        task: which.
        heads: all that were trained.
        variants: what each left; "" is the only one of a task that has none.
        folder: of the run.
        seconds: of this start.
    """

    settings: TaskSettings
    task: type[Task[Any]]
    heads: list[Head]
    variants: Variants
    folder: Path
    seconds: float

    @property
    def monitor(self) -> str:
        """The figure that chose the checkpoints, on dev."""
        return next(iter(self.variants.values())).monitor

    @property
    def headline(self) -> str:
        """The figure on test that tables show."""
        return next(iter(self.variants.values())).headline

    def of_head(self, head: Head) -> dict[str, Outcome]:
        """Its outcomes by variant, without those in which it was given up."""
        return of_head(self.variants, head)

    def given_up(self, head: Head) -> dict[str, int]:
        """Variant -> update, where it was given up."""
        return given_up(self.variants, head)


def of_head(variants: Variants, head: Head) -> dict[str, Outcome]:
    """Outcomes of a head by variant, without those in which it was given up."""
    return {v: o.heads[head.name] for v, o in variants.items() if head.name in o.heads}


def given_up(variants: Variants, head: Head) -> dict[str, int]:
    """Variant -> update, where a head was given up."""
    found = {v: o.diverged.get(head.name) for v, o in variants.items()}
    return {v: update for v, update in found.items() if update is not None}


def chosen_rate(heads: Sequence[Head], variants: Variants, *, mode: str) -> float:
    """The learning rate that is best on dev, mean over variants and seeds.

    Raises:
        ValueError: if no rate is left in all variants.
    """
    on_dev = {
        head.name: [o.best["value"] for o in of_head(variants, head).values()]
        for head in heads
        if not given_up(variants, head)
    }
    rate = best_rate(heads, on_dev, mode=mode)
    if rate is None:
        raise ValueError("every learning rate was given up: lower heads.lr")
    return rate


def together(first: Variants, second: Variants) -> dict[str, Outcomes]:
    """Heads of two trainings of the same variants."""
    return {
        v: replace(o, heads=o.heads | second[v].heads, diverged=o.diverged | second[v].diverged)
        for v, o in first.items()
    }


def finish(done: Finished) -> None:
    """Choose the learning rate on dev, write a result for each seed, print it.

    Raises:
        ValueError: if no rate is left in all variants.
    """
    rate = chosen_rate(done.heads, done.variants, mode=done.task.mode)
    # The run folder holds one result, that of the first seed; every seed has its file of results.
    for number, head in enumerate(h for h in done.heads if h.lr == rate):
        metrics, path = _metrics(done, head), _result_path(done, head.seed)
        for place in (done.folder / RESULT, path) if number == 0 else (path,):
            _write(done, head, metrics, place)
        point_to(done.folder)
        print(_summary(done, head, metrics, path), flush=True)
    if len(done.heads) > 1:
        print(_table(done, rate), flush=True)


def _metrics(done: Finished, head: Head) -> dict[str, float]:
    """Means over variants, and those of each."""
    outcomes = done.of_head(head)
    first = next(iter(outcomes.values()))
    metrics = {key: mean(o.metrics[key] for o in outcomes.values()) for key in first.metrics}
    for variant, outcome in outcomes.items():
        if variant:
            metrics |= {f"{key}.{variant}": value for key, value in outcome.metrics.items()}
    return metrics


def _write(done: Finished, head: Head, metrics: dict[str, float], path: Path) -> None:
    settings, task, outcomes = done.settings, done.task, done.of_head(head)
    weights = zip(*(o.layer_weights for o in outcomes.values()), strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_probe_result(
        path,
        task=task.name,
        upstream=settings.upstream.name,
        corpus=settings.corpus,
        kind=settings.kind,
        headline=done.headline,
        mode=task.headline_mode,
        metrics=metrics,
        selected_on=done.monitor,
        best={v: o.best for v, o in outcomes.items()},
        layer_weights=[mean(column) for column in weights],
        curves={v: o.curve for v, o in outcomes.items()},
        published=settings.published,
        config=_config(done, head),
        checkpoints={v: (o.checkpoint, o.checkpoint_sha256) for v, o in outcomes.items()},
        counts=next(iter(outcomes.values())).counts,
        features=next(iter(done.variants.values())).features,
        drawn=_drawn([o.drawn for o in outcomes.values()]),
        trivial=_trivial(outcomes),
        trivial_answer=task.trivial_answer,
        heads={h.name: _line(done, h) for h in done.heads if h.name},
        seconds=done.seconds,
        run=str(done.folder),
    )


def _trivial(outcomes: Mapping[str, Outcome]) -> dict[str, float]:
    """Means over variants of what learns nothing."""
    own = [o.trivial for o in outcomes.values()]
    return {name: mean(figures[name] for figures in own) for name in own[0]}


def _drawn(variants: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Plot data of one run; confusions of several are added up where their classes are the same."""
    if len(variants) == 1:
        return dict(variants[0])
    parts = [drawn.get("confusion", []) for drawn in variants]
    titles = [[(m["title"], m["classes"]) for m in part] for part in parts]
    # Folds of a corpus of speakers or languages may have other classes: sums would mean nothing.
    if any(t != titles[0] for t in titles):
        return {}
    matrices = []
    for same in zip(*parts, strict=True):
        rows = zip(*(m["counts"] for m in same), strict=True)
        counts = [[sum(cells) for cells in zip(*row, strict=True)] for row in rows]
        matrices.append({**same[0], "counts": counts})
    return {"confusion": matrices} if matrices else {}


def _config(done: Finished, head: Head) -> dict[str, Any]:
    """What a run of this head alone would say."""
    config = flat(done.settings.values) | {"optim.lr": head.lr, "seed": head.seed}
    # Side by side, heads see the batches of the first seed: alone, this one must be told so.
    if head.seed != done.settings.seed and config.get("data.seed") is None:
        config["data.seed"] = done.settings.seed
    return config


def _line(done: Finished, head: Head) -> dict[str, float]:
    """Figures of one head: on dev at its best and on test, or how far it came."""
    line = {"lr": head.lr, "seed": float(head.seed)}
    if gone := done.given_up(head):
        return line | {"given_up_at_update": float(min(gone.values()))}
    outcomes = done.of_head(head).values()
    line[done.monitor] = mean(o.best["value"] for o in outcomes)
    line[done.headline] = mean(o.metrics[done.headline] for o in outcomes)
    return line


def _result_path(done: Finished, seed: int) -> Path:
    """Where the result goes; one on a mini corpus does not take an official one's place."""
    settings = done.settings
    folder = Path(settings.run.results) / settings.upstream.name
    name = stem(done.task.name, settings, seed)
    path = folder / f"{name}.json"
    if settings.kind == "mini" and path.is_file():
        if read_json(path).get("kind") == "official":
            return folder / f"{name}.mini.json"
    return path


def _summary(done: Finished, head: Head, metrics: dict[str, float], result: Path) -> str:
    outcomes, task = done.of_head(head), done.task
    digits = 3 if task.unit else 4
    rows = [f"{key:<28} {value:.{digits}f}" for key, value in metrics.items() if "." not in key]
    if len(outcomes) > 1:
        folds = "  ".join(f"{v} {o.metrics[done.headline]:.2f}" for v, o in outcomes.items())
        rows.append(f"{done.headline} by variant   {folds}")
    return "\n".join(
        [
            "",
            *rows,
            *_compared(done, outcomes),
            _selected(done, head),
            f"seconds      {done.seconds:.0f}, this start",
            f"result       {result}",
            f"predictions  {done.folder}/**/{head.name + '/' if head.name else ''}predictions",
            *_next(done, outcomes),
        ]
    )


def _selected(done: Finished, head: Head) -> str:
    """Which weights were tested."""
    adaptation = done.settings.adaptation
    if adaptation.take == "last":
        return "weights      the last"
    if adaptation.take == "average":
        return f"weights      average of the last {adaptation.average} validations"
    return f"selected on {done.monitor}" + (f", {head.name}" if head.name else "")


def _next(done: Finished, outcomes: Mapping[str, Outcome]) -> list[str]:
    """What to do with an encoder that trained."""
    if not done.settings.tuned:
        return []
    checkpoint = next(iter(outcomes.values())).checkpoint
    return [f"next: for transformers:  {command()} export CKPT={checkpoint} OUT=DIR"]


def _compared(done: Finished, outcomes: Mapping[str, Outcome]) -> list[str]:
    """A line on what learns nothing, if it has the figure that tables show."""
    trivial = _trivial(outcomes)
    name = next((k for k in trivial if done.headline.startswith(k)), None)
    if name is None:
        return []
    digits = 3 if done.task.unit else 4
    return [f"{'learning nothing':<28} {trivial[name]:.{digits}f}, {done.task.trivial_answer}"]


def _table(done: Finished, rate: float) -> str:
    """All heads, and which rate was chosen."""
    monitor, headline = done.monitor, done.headline
    rows = [["head", monitor, headline, ""]]
    for head in done.heads:
        line = _line(done, head)
        if monitor in line:
            mark = "chosen" if head.lr == rate else ""
            rows.append([head.name, f"{line[monitor]:.3f}", f"{line[headline]:.3f}", mark])
        else:
            update = line["given_up_at_update"]
            rows.append([head.name, "-", "-", f"given up at update {update:.0f}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(["", *(line.rstrip() for line in lines)])
