# SPDX-License-Identifier: Apache-2.0
"""One JSON file a task and upstream: the score, and what is needed to doubt it."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wavlm_lightning.files import read_json, write_text
from wavlm_lightning.result import check_finite, commit, versions

Curve = Mapping[str, list[tuple[int, float]]]  # figure -> (update, value)


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What a run leaves for tables and for other programs.

    Args:
        task: its name.
        upstream: name of the model that was evaluated.
        corpus: official corpus, folder of a manifest, or "mini".
        kind: official, manifest or mini; only the first compares with published scores.
        headline: the figure that tables show.
        mode: "min" or "max": which headline is better.
        metrics: flat, keys such as "test/eer"; of variants with their name behind a dot.
        selected_on: the figure on dev that chose the checkpoint.
        best: its value and update, by variant.
        layer_weights: mean over variants, [] where there is one layer.
        curves: figures on dev by update, by variant.
        published: scores of papers by upstream.
        config: flat, as the run used it.
        seed: of the run.
        checkpoint: of the first variant.
        checkpoint_sha256: hash of that file.
        checkpoints: path and hash by variant.
        counts: utterances and hours by split, padding.
        features: how those of the upstream came about: computed at each use, or kept.
        drawn: what a report draws, as Task.plot_data gives it; confusions of variants are summed.
        trivial: figures on test of `trivial_answer`, which learns nothing.
        trivial_answer: what that is, such as the most frequent class.
        heads: all that were trained side by side, by name: learning rate, seed, figures; {} if this
            one was alone.
        seconds: wall time of the start that finished the run.
        run: its folder.
        commit: of the code, or "unknown".
        versions: of Python and packages.
    """

    task: str
    upstream: str
    corpus: str
    kind: str
    headline: str
    mode: str
    metrics: dict[str, float]
    selected_on: str
    best: dict[str, dict[str, float]]
    layer_weights: list[float]
    curves: dict[str, Curve]
    published: dict[str, float]
    config: dict[str, Any]
    seed: int
    checkpoint: str
    checkpoint_sha256: str
    checkpoints: dict[str, tuple[str, str]]
    counts: dict[str, float]
    seconds: float
    run: str
    commit: str
    versions: dict[str, str]
    features: str = ""
    drawn: dict[str, Any] = field(default_factory=dict)
    trivial: dict[str, float] = field(default_factory=dict)
    trivial_answer: str = ""
    heads: dict[str, dict[str, float]] = field(default_factory=dict)


def write_probe_result(
    path: Path,
    *,
    checkpoints: Mapping[str, tuple[str, str]],
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    seconds: float,
    **rest: Any,
) -> ProbeResult:
    """Fill in what can be looked up and write the file.

    Raises:
        ValueError: naming a metric that is not finite.
    """
    check_finite(path, metrics)
    first = next(iter(checkpoints.values()))
    result = ProbeResult(
        checkpoint=first[0],
        checkpoint_sha256=first[1],
        checkpoints=dict(checkpoints),
        config=dict(config),
        metrics=dict(metrics),
        seed=config["seed"],
        seconds=round(seconds, 1),
        commit=commit(),
        versions=versions(),
        **rest,
    )
    write_text(path, json.dumps(asdict(result), indent=2) + "\n")
    return result


def to_people(line: str) -> None:
    """A line beside what a program prints."""
    print(line, file=sys.stderr, flush=True)


def read_probe_results(
    folder: Path, *, tell: Callable[[str], None] = to_people
) -> list[ProbeResult]:
    """All results below a folder, by upstream, task, corpus and seed.

    Args:
        folder: Of results.
        tell: Is given a line on each file that is no result of a task, and is left out.
    """
    found = []
    for path in sorted(folder.glob("*/*.json")):
        try:
            result = ProbeResult(**read_json(path))
            check_result(result)
            found.append(result)
        except (TypeError, ValueError, OSError) as error:
            why = str(error).removeprefix(f"{path} is ")
            tell(f"left out: {path} is no result of a task: {why}")
    return sorted(found, key=lambda r: (r.upstream, r.task, r.corpus, r.seed))


def best_on_test(metrics: Mapping[str, float], headline: str) -> str | None:
    """The figure that is the headline's best over checkpoints chosen on test, if there is one.

    >>> best_on_test({"test/eer": 5.0, "test/eer_best_of_10_test": 4.0}, "test/eer")
    'test/eer_best_of_10_test'
    """
    pattern = rf"{re.escape(headline)}_best_of_\d+_test"
    return next((name for name in metrics if re.fullmatch(pattern, name)), None)


def check_result(result: ProbeResult) -> None:
    """Refuse what no table can hold.

    Raises:
        ValueError: saying what is wrong with it.
    """
    for name in ("task", "upstream", "corpus", "kind", "headline", "commit"):
        if not isinstance(getattr(result, name), str):
            raise ValueError(f"{name} is no text")
    maps = "metrics counts config curves checkpoints heads drawn trivial"
    for name in maps.split():
        if not isinstance(getattr(result, name), dict):
            raise ValueError(f"{name} is no mapping")
    if not isinstance(result.metrics.get(result.headline), int | float):
        raise ValueError(f"metrics have no {result.headline}, the headline")
