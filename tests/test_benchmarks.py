# SPDX-License-Identifier: Apache-2.0
"""The benchmark's own arithmetic, and one turn of it at mini size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.contenders import Setting, training
from benchmarks.goals import AS_IT_COMES, table_of
from benchmarks.picture import draw
from benchmarks.timing import Child, interleaved

ABOUT = {
    "what": "about",
    "date": "2026-01-01",
    "device": "two cores",
    "threads": 2,
    "size": "base",
    "versions": {"torch": "2.11"},
}


def step(contender: str, times_ours: float) -> dict[str, Any]:
    about = {"what": "training step", "precision": "fp32", "contender": contender}
    about["process"] = AS_IT_COMES
    return {**about, "seconds": times_ours, "times_ours": times_ours}


def peak(what: str, contender: str, seconds: float, mib: int) -> dict[str, Any]:
    about = {"what": what, "precision": "fp32", "contender": contender, "rows": 1}
    return {**about, "seconds_each": seconds, "mib": mib}


def row(table: str, start: str) -> list[str]:
    (line,) = [x for x in table.splitlines() if x.startswith(f"| {start}")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_table_holds_the_fastest_peer_against_the_goal() -> None:
    lines = [ABOUT, step("ours", 1.0), step("transformers", 1.6), step("torchaudio", 1.4)]
    goal = "training step, fp32, as it comes: fastest peer"
    assert row(table_of(lines), goal) == ["1.5 or more", "1.40", "no"]
    lines[-1] = step("torchaudio", 1.5)
    assert row(table_of(lines), goal) == ["1.5 or more", "1.50", "yes"]


def test_table_holds_memory_against_the_leaner_peer_and_its_growth() -> None:
    step_memory = [("ours", 40), ("transformers", 110), ("torchaudio", 100)]
    lines = [ABOUT, *(peak("training memory", name, 10.0, mib) for name, mib in step_memory)]
    growth = "inference memory of one utterance"
    lines += [peak(growth, "ours", s, m) for s, m in ((20.0, 10), (80.0, 46))]
    table = table_of(lines)
    assert row(table, "memory of a training step, 4 x 10 s, ours: share") == [
        "0.4 or less",
        "0.40",
        "yes",
    ]
    assert row(table, "inference memory of 80 s over 20 s") == ["4.5 or less", "4.60", "no"]
    assert row(table, "training memory of 80 s over 20 s") == ["4.5 or less", "not measured", ""]


def test_ratio_is_the_median_of_single_turns_without_the_first() -> None:
    seconds = {"ours": iter([9.0, 1.0, 2.0, 4.0]), "peer": iter([9.0, 2.0, 2.0, 12.0])}

    def turn(times: Iterator[float]) -> tuple[float, float]:
        return next(times), 7.0

    timed = interleaved(
        {n: lambda t=t: turn(t) for n, t in seconds.items()},  # type: ignore[misc]
        runs=3,
        ours="ours",
    )
    assert timed["ours"] == (2.0, 1.0, 7.0)
    assert timed["peer"] == (2.0, 2.0, 7.0)


@pytest.mark.parametrize("what", ["training", "inference"])
def test_a_child_takes_turns_and_says_what_they_took(what: str) -> None:
    large = torch.ones(2**28)  # what this process holds is not the child's
    child = Child("ours", what, Setting("mini", rows=2, seconds=1.0))
    del large
    (first, _), (second, mib) = child(), child()
    child.close()
    assert 0 < second < 60
    assert first > 0
    assert mib > 1
    assert child.process.returncode == 0


@pytest.mark.parametrize("name", ["ours", "transformers"])
def test_two_steps_of_a_contender_run(name: str) -> None:
    run = training(name, Setting("mini", rows=2, seconds=1.0, bf16=True))
    run()
    run()


def test_picture_is_drawn(tmp_path: Path) -> None:
    memory = peak("training memory", "ours", 10.0, 40)
    draw([ABOUT, step("ours", 1.0), memory], tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 10_000
