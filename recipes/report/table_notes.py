# SPDX-License-Identifier: Apache-2.0
"""What a table of scores has to say below it: what is missing, and what is hard to compare."""

from collections.abc import Callable
from shlex import quote
from statistics import mean
from typing import Any

from wavlm_lightning.config import flat
from wavlm_lightning.downstream.results import ProbeResult
from wavlm_lightning.recipes.report.scores import (
    Column,
    by_variant,
    results_of,
    runs_of,
    upstreams_of,
)
from wavlm_lightning.shipped import command, config_file

# What makes scores of one column hard to compare.
DIFFERENCES: dict[str, Callable[[ProbeResult], Any]] = {
    "budgets": lambda r: _and(r.config.get("optim.total_updates"), "updates"),
    "protocols": lambda r: r.config.get("protocol"),
    "commits": lambda r: short(r.commit),
    "numbers of test utterances": lambda r: r.counts.get("test_utterances"),
    "numbers of variants": lambda r: len(r.best),
    "folders": lambda r: r.config.get("data.manifest"),
}


def missing_runs(results: list[ProbeResult], columns: list[Column]) -> list[str]:
    """What to run for the cells that are empty; official corpora need their folder."""
    lines = []
    for upstream in upstreams_of(results):
        tasks = [c for c in columns if not runs_of(results, upstream, c)]
        if tasks:
            one = results_of(results, upstream)[0]
            word = upstream
            if not config_file("upstream", f"{upstream}.yaml").is_file():
                word = str(one.config.get("upstream.source") or upstream)
            program = "superb"
            if is_tuned(one):  # its name says how, and is no upstream
                program, word = "finetune", str(one.config["upstream.source"])
            line = f"{command()} {program} TASK={tasks[0].task} UPSTREAM={quote(word)}"
            if one.kind == "official":
                line += f" paths.{tasks[0].corpus}=DIR"
            elif one.kind == "manifest":
                line += f" data.manifest={quote(str(one.config.get('data.manifest') or 'DIR'))}"
            lines.append(f"missing: {', '.join(c.task for c in tasks)} on {upstream}: {line}")
    return lines


def is_tuned(result: ProbeResult) -> bool:
    """Whether the encoder trained with the head."""
    return bool(result.config.get("adaptation.encoder", "frozen") != "frozen")


def tuned_upstreams(results: list[ProbeResult]) -> list[str]:
    """A line on upstreams that are not frozen, if there are any."""
    names = sorted({r.upstream for r in results if is_tuned(r)})
    if not names:
        return []
    return [
        f"{', '.join(names)}: the encoder trained with each head, which the benchmark does not do; "
        "not comparable with frozen upstreams or published scores"
    ]


def departures(results: list[ProbeResult], protocols: dict[str, dict[str, Any]]) -> list[str]:
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


def run_notes(results: list[ProbeResult], columns: list[Column]) -> list[str]:
    """Scores of variants, then whatever makes scores of a column or row hard to compare."""
    lines = []
    for c in columns:
        for upstream in upstreams_of(results):
            values: dict[str, list[float]] = {}
            for r in runs_of(results, upstream, c):
                for variant, value in by_variant(r, c.headline).items():
                    values.setdefault(variant, []).append(value)
            if values:
                means = ", ".join(f"{v} {mean(s):.{c.digits}f}" for v, s in values.items())
                lines.append(f"{c.task} on {upstream} by variant, mean over seeds: {means}")
    return tuned_upstreams(results) + lines + _differences(results)


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
    for upstream in upstreams_of(results):
        runs = [r for r in results if r.upstream == upstream]
        models: dict[str, dict[str, None]] = {}
        for r in runs:
            models.setdefault(upstream_hash(r), {})[r.task] = None
        if len(models) > 1:
            parts = (f"{value} ({', '.join(tasks)})" for value, tasks in models.items())
            lines.append(f"{upstream}: different upstream checkpoints: {', '.join(parts)}")
        keys = [(r.task, r.seed) for r in runs]
        for task, seed in sorted({key for key in keys if keys.count(key) > 1}):
            lines.append(f"{task} on {upstream}: seed {seed} is there more than once, all counted")
    return lines


def upstream_hash(result: ProbeResult) -> str:
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
