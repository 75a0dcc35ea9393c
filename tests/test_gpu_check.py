# SPDX-License-Identifier: Apache-2.0
"""The GPU check on a CPU: every part runs, and one that fails is said and ends nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_parts import PARTS, Check

SLOW = {"programs"}  # `make pretrain` and `make superb`, which tests of their own run


def test_the_plan_holds_every_part() -> None:
    assert {part for part, _ in gpu_check.PLAN} == set(PARTS)


@pytest.mark.filterwarnings("ignore:Profiler clears events")
@pytest.mark.parametrize("part", [p for p in PARTS if p not in SLOW])
def test_a_part_runs_on_a_cpu(part: str) -> None:
    facts = list(PARTS[part](Check("base", dry=True)))
    assert facts
    json.dumps(facts)
    errors = [fact.get("relative", fact.get("gradients")) for fact in facts]
    for error in errors:
        found = error.values() if isinstance(error, dict) else [error] if error else []
        assert all(value < 0.03 for value in found)


def test_a_part_that_fails_is_said_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(part: str, size: str, **_: Any) -> Any:
        about = {"part": part, "size": size}
        if part == "steps":
            share = {"mfu": 0.25, "waits": 0}
            yield about | share | {"what": "step", "compiled": True, "seconds": 15.6, "ms": 16.0}
        elif part == "peer":
            yield about | {
                "what": "transformers step",
                "compiled": False,
                "seconds": 15.6,
                "ms": 95,
            }
        elif part == "learners":
            yield about | {"what": part, "learners": 8, "a_stream_each": True, "ms": 70.5}
        elif part == "graphs":
            yield about | {"what": "CUDA graphs", "seconds": 2.0, "ms": 12.5}
        else:
            yield about | {"what": part, "failed": "no reason"}

    monkeypatch.setattr(gpu_check, "run_part", found)
    assert gpu_check.main([f"--out={tmp_path}", "--sizes=base", "--dry"]) == 1
    said = capsys.readouterr().out
    assert "| base | 15.6 | 16.0 |  |  | 95 | 25.0% | 0 |" in said
    assert "recognition heads on a frozen base, 8, a stream each: 70.5 ms a step" in said
    assert "base, 2 s, as CUDA graphs: 12.5 ms a step" in said
    assert "heads (base) failed: no reason" in said
    (lines,) = tmp_path.glob("*.jsonl")
    assert len(lines.read_text().splitlines()) == len(gpu_check.PLAN)


def test_a_process_that_fails_gives_its_last_line() -> None:
    (fact,) = gpu_check.run_part("no_such_part", "base", dry=True, seconds=60)
    assert "no_such_part" in fact["failed"]


def test_a_part_that_takes_too_long_is_ended() -> None:
    (fact,) = gpu_check.run_part("steps", "base", dry=True, seconds=0.01)
    assert fact["failed"] == "ended after 0 s"
