# SPDX-License-Identifier: Apache-2.0
"""A report says of pre-trainings what their results and logs hold."""

import json
from pathlib import Path

import pytest

from wavlm_lightning.recipes.pretrain.__main__ import main as pretrain
from wavlm_lightning.recipes.report.__main__ import main as table
from wavlm_lightning.recipes.report.pretraining import averaged, pretrainings
from wavlm_lightning.recipes.report.report_blocks import Curves, Pictures, Table


def test_iterations_lie_side_by_side(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pretrain(words) == 0
    first, second = pretrainings(tmp_path / "runs")
    (values,) = [block for block in first.blocks if isinstance(block, Table)]
    result = json.loads((tmp_path / "runs/tiny/latest/result.json").read_text())
    row = [cell.text for cell in values.rows[0]]
    assert row[0] == "tiny"
    assert row[1] == f"{result['metrics']['dev/accuracy_masked']:.3f}"
    assert row[4] == "no alignments"
    (shown,) = [block for block in second.blocks if isinstance(block, Pictures)]
    assert shown.numbers == {"iteration 1": 0, "iteration 2": 1}
    curves = {p.figure: p for p in shown.pictures if isinstance(p, Curves)}
    assert {len(lines[0]) for lines in curves["train/loss"].lines.values()} == {3, 8}
    last = curves["dev/loss"].lines["iteration 2"][0][-1]
    assert last[1] == pytest.approx(result["metrics"]["dev/loss"], rel=1e-5)
    assert "dev/codes_predicted" in curves
    monkeypatch.chdir(tmp_path)
    assert table(["--runs=runs", "--results=none"]) == 0
    page = (tmp_path / "none" / "report.html").read_text()
    assert "How tiny learned" in page
    assert page.count("<figure>") == len(shown.pictures)
    assert "## Pre-training" in (tmp_path / "none" / "table.md").read_text()


def test_a_run_that_is_not_finished_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "mini" / "latest").mkdir(parents=True)
    assert pretrainings(tmp_path) == []


def test_means_keep_the_mean() -> None:
    points = [(i, float(i % 7)) for i in range(700)]
    found = averaged(points, most=10)
    assert len(found) == 10
    assert sum(y for _, y in found) / 10 == pytest.approx(3.0)
    assert [x for x, _ in found] == [round(i * 70 + 34) for i in range(10)]
