# SPDX-License-Identifier: Apache-2.0
"""The task in docs/extend.md runs, as it stands there, in the two files that it names."""

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wavlm_lightning.recipes.mini import superb_corpus

ROOT = Path(__file__).parent.parent
FILES = ("downstream/tasks/accent.py", "configs/superb/accent.yaml")
FEW = ["--optim.total_updates=4", "--run.validate_updates=2", "--run.checkpoint_updates=2"]


def blocks() -> dict[str, str]:
    """Text of each fenced block that follows a line with the name of its file alone."""
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our packages and configurations with the two files beside them."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("wavlm_lightning", "downstream", "recipes", "configs"):
        ignored = shutil.ignore_patterns("__pycache__", "paths.yaml")
        shutil.copytree(ROOT / name, root / name, ignore=ignored, symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", root)
    for name, text in blocks().items():
        assert not (root / name).exists()
        (root / name).write_text(text, encoding="utf-8")
    return root


def run(root: Path, *words: str) -> str:
    """What a program prints that is started there."""
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_text_names_two_files() -> None:
    assert tuple(blocks()) == FILES


def test_the_task_ends_with_a_finite_score(copy: Path, tmp_path: Path) -> None:
    corpus = superb_corpus("voxceleb1", tmp_path, tiny=True)
    words = [f"--paths.voxceleb1={corpus}", "--protocol=mini", "--data.num_workers=0", *FEW]
    run(copy, "wavlm_lightning.recipes.superb", "accent", "random", *words)
    result = json.loads((copy / "results/random/accent.json").read_text())
    assert math.isfinite(result["metrics"]["test/balanced_accuracy"])
    assert result["headline"] == "test/balanced_accuracy"
    confusion = result["drawn"]["confusion"][0]
    assert confusion["classes"] == ["Trinidad and Tobago", "UK", "USA"]
    # Of the twelve speakers, of six recordings each, one of each nationality is in test.
    assert [sum(row) for row in confusion["counts"]] == [6, 6, 6]


def test_the_task_is_listed_with_its_first_line(copy: Path) -> None:
    title = blocks()[FILES[0]].split('"""')[1].splitlines()[0]
    listed = run(copy, "wavlm_lightning.recipes.superb.tasks").splitlines()
    assert [line.split(maxsplit=1)[1] for line in listed if line.split()[0] == "accent"] == [title]


def test_ruff_finds_nothing_in_the_code(copy: Path) -> None:
    run(copy, "ruff", "check", "--no-cache", FILES[0])
    run(copy, "ruff", "format", "--no-cache", "--check", FILES[0])
