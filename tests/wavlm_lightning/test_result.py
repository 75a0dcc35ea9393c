# SPDX-License-Identifier: Apache-2.0
"""The result of a run: complete, finite, whole on disk."""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavlm_lightning import result as result_module
from wavlm_lightning.files import write_text
from wavlm_lightning.hashing import file_sha256
from wavlm_lightning.result import commit, versions, write_result

# What other programs rely on; a pre-training has a stage where a task has a task.
FIELDS = "stage metrics selected_on config commit checkpoint_sha256 counts seconds versions".split()


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "last.ckpt").write_bytes(b"weights")
    return {
        "upstream": "wavlm_mini",
        "metrics": {"dev/accuracy_masked": 0.5, "dev/majority": 0.1},
        "selected_on": "last",
        "config": {"optim.lr": 1e-3},
        "checkpoint": tmp_path / "last.ckpt",
        "counts": {"train_utterances": 3},
        "seconds": 12.345,
    }


def test_file_holds_every_field_of_the_contract(tmp_path: Path, run: dict[str, Any]) -> None:
    write_result(tmp_path / "result.json", "pretrain", **run)
    found = json.loads((tmp_path / "result.json").read_text())
    assert set(FIELDS) <= set(found)
    assert found["stage"] == "pretrain"
    for key in ("metrics", "selected_on", "config", "counts"):
        assert found[key] == run[key]


def test_checkpoint_is_hashed(tmp_path: Path, run: dict[str, Any]) -> None:
    found = write_result(tmp_path / "result.json", "pretrain", **run)
    assert found.checkpoint_sha256 == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_metric_that_is_not_finite_is_refused(
    tmp_path: Path, run: dict[str, Any], value: float
) -> None:
    run["metrics"]["dev/loss"] = value
    with pytest.raises(ValueError, match=r"result\.json: not finite: dev/loss"):
        write_result(tmp_path / "result.json", "pretrain", **run)
    assert not (tmp_path / "result.json").exists()


def test_writing_leaves_no_other_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "first")
    write_text(tmp_path / "a.txt", "ünï")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "ünï"


def test_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "a.bin").write_bytes(content)
    assert file_sha256(tmp_path / "a.bin") == hashlib.sha256(content).hexdigest()


def test_versions_are_those_in_use() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert torch.__version__ == found["torch"]


def test_commit_is_a_version_without_a_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_module, "__file__", str(tmp_path / "site" / "ours" / "result.py"))
    assert commit() == f"version {version('wavlm-lightning')}"
    # Installed below somebody's repository: its commit is not ours.
    subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)
    assert commit() == f"version {version('wavlm-lightning')}"


def test_commit_says_whether_files_differ_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    path = tmp_path / "ours" / "result.py"
    path.parent.mkdir()
    path.write_text("1")
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(result_module, "__file__", str(path))
    clean = commit()
    path.write_text("2")
    assert (len(clean), commit()) == (40, f"{clean}+changes")
