# SPDX-License-Identifier: Apache-2.0
"""The benchmark's own arithmetic, and one turn of it at mini size."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.contenders import Setting, kernels, training
from benchmarks.goals import AS_IT_COMES, table_of
from benchmarks.host import Use, measured, processor
from benchmarks.names import ONE_THREAD
from benchmarks.picture import draw
from benchmarks.timing import Child, Turn, figures, interleaved
from wavlm_lightning.runtime import TICKS

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
    lines = [ABOUT, step("ours", 1.0), step("transformers", 1.6)]
    goal = "training step, fp32, as it comes: fastest peer"
    assert row(table_of(lines), goal) == ["1.5 or more", "not measured", ""]  # of all or none
    lines.append(step("torchaudio", 1.4))
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


def turns(*seconds: float, foreign: tuple[float, ...] = ()) -> Callable[[], Turn]:
    """A contender that takes these seconds on the clock, twice as many of the processor."""
    shares = iter(foreign or (0.0,) * len(seconds))
    left = iter(seconds)

    def turn() -> Turn:
        own = next(left)
        return Turn(Use(own, 2 * own, 10, next(shares)), 7.0)

    return turn


def test_ratio_is_the_median_of_single_rounds_without_the_first() -> None:
    works = {"ours": turns(9.0, 1.0, 2.0, 4.0), "peer": turns(9.0, 2.0, 2.0, 12.0)}
    timed = interleaved(works, runs=3, ours="ours")
    assert timed["ours"] == (2.0, 1.0, 7.0, 4.0, 1.0, 10, 0.0, 3)
    assert timed["peer"] == (2.0, 2.0, 7.0, 4.0, 2.0, 10, 0.0, 3)


def test_a_round_beside_other_processes_is_tried_again() -> None:
    ours = turns(9.0, 1.0, 5.0, 1.0, foreign=(0.9, 0.1, 0.0, 0.0))
    peer = turns(9.0, 3.0, 5.0, 3.0, foreign=(0.9, 0.0, 0.11, 0.0))
    timed = interleaved({"ours": ours, "peer": peer}, runs=2, ours="ours")
    assert (timed["peer"].ratio, timed["peer"].rounds) == (3.0, 2)
    assert timed["peer"].foreign == 0.1  # of all three


def test_a_row_without_a_quiet_round_has_no_figures() -> None:
    busy = turns(*[1.0] * 4, foreign=(0.0, 0.2, 0.3, 0.4))
    timed = interleaved({"ours": busy}, runs=1, ours="ours")["ours"]
    assert timed.rounds == 0
    assert figures(timed) == {"refused": "other processes took 30% of the processors"}
    line = step("transformers", 1.0)
    for key in ("seconds", "times_ours"):
        del line[key]
    table = table_of([ABOUT, step("ours", 1.0), line | figures(timed)])
    assert "refused: other processes took 30% of the processors" in table
    goal = "training step, fp32, as it comes: fastest peer"
    assert row(table, goal) == ["1.5 or more", "not measured", ""]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["training", "inference"])
def test_a_child_takes_turns_and_says_what_they_took(what: str) -> None:
    large = torch.ones(2**28)  # what this process holds is not the child's
    child = Child("ours", what, Setting("mini", rows=2, seconds=1.0), process=ONE_THREAD)
    del large
    first, second = child(), child()
    child.close()
    assert 0 < second.use.seconds < 60
    assert 0 < second.use.cpu < 1.1 * second.use.seconds + 0.02  # of one thread
    assert first.use.faults > 0
    assert second.mib > 1
    assert child.process.returncode == 0


def test_a_meter_knows_own_work_from_that_of_others() -> None:
    code = "import time\nwhile time.process_time() < {}: pass"
    command = [sys.executable, "-c", code.format(0.5)]
    alone = measured(lambda: subprocess.run(command, check=True))
    assert alone.cpu >= 0.5  # of a child that was waited for
    other = subprocess.Popen([sys.executable, "-c", code.format(60)])

    def burned() -> float:
        fields = Path(f"/proc/{other.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def wait() -> None:
        start = burned()
        while burned() < start + 0.5:
            time.sleep(0.05)

    try:
        beside = measured(wait)
    finally:
        other.kill()
        other.wait()
    assert beside.foreign * beside.seconds * (os.cpu_count() or 1) > 0.4


def test_the_processor_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("model name : Some CPU\ncpu family : 25\nflags : fpu avx2 avx512f amx_bf16\n")
    monkeypatch.setattr("benchmarks.host.CPUINFO", file)
    assert processor() == f"Some CPU (AVX2, AVX-512, AMX, family 25), {os.cpu_count()} cores"


@pytest.mark.parametrize(
    ("what", "bf16", "wanted"),
    [
        ("training", True, "attention by_head, convolutions as products, linear by torch"),
        ("training", False, "attention by_head, convolutions as products, linear by torch"),
        ("inference", True, "attention by_head, convolutions as products, linear by torch"),
        ("inference", False, "attention sdpa, convolutions as conv1d, linear by oneDNN"),
    ],
)
def test_kernels_are_named(
    what: str, bf16: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavlm_lightning.model.kernels.linear.onednn_is_faster", lambda: True)
    assert kernels(Setting("mini", rows=2, seconds=1.0, bf16=bf16), what) == wanted


@pytest.mark.parametrize("name", ["ours", "transformers"])
def test_two_steps_of_a_contender_run(name: str) -> None:
    run = training(name, Setting("mini", rows=2, seconds=1.0, bf16=True))
    run()
    run()


def test_picture_is_drawn(tmp_path: Path) -> None:
    memory = peak("training memory", "ours", 10.0, 40)
    draw([ABOUT, step("ours", 1.0), memory], tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 10_000
