# SPDX-License-Identifier: Apache-2.0
"""A damaged checkpoint costs the updates since the one before it, and is told in one line."""

import re
from pathlib import Path

import pytest
import torch

from wavlm_lightning.checkpoint_file import read_checkpoint, write_checkpoint
from wavlm_lightning.files import previous_of
from wavlm_lightning.recipes.pretrain.__main__ import main
from wavlm_lightning.recipes.run.checkpoints import to_resume
from wavlm_lightning.recipes.run.folder import newest_first
from wavlm_lightning.recipes.run.processes import Processes

ALONE = Processes(0, 1, 1)
RUN = {"loops": {}, "optimizer_states": [], "state_dict": {"a": torch.ones(300)}}


def save(folder: Path, update: int) -> Path:
    path = folder / "checkpoints" / "last.ckpt"
    path.parent.mkdir(exist_ok=True)
    write_checkpoint(path, {**RUN, "global_step": update}, keep_previous=True)
    return path


def test_the_newest_checkpoint_is_taken_if_it_is_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert to_resume(tmp_path, ALONE) is None
    save(tmp_path, 10)
    assert to_resume(tmp_path, ALONE) == save(tmp_path, 20)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", ["cut", "empty", "zeroed", "foreign"])
def test_the_one_before_is_taken_if_the_newest_is_damaged(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 10)
    path = save(tmp_path, 20)
    whole = path.read_bytes()
    if damage == "foreign":
        torch.save({"weights": torch.ones(3)}, path)
    else:
        path.write_bytes({"cut": whole[:400], "empty": b"", "zeroed": bytes(len(whole))}[damage])
    found = to_resume(tmp_path, ALONE)
    assert found == previous_of(path)
    assert read_checkpoint(found)["global_step"] == 10
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert re.search(rf"warning: .*{path.name} .*going on from {found}, update 10", said)
    assert path.with_name("last.ckpt.damaged").exists()
    # What is saved next keeps the good one, not the damaged one.
    save(tmp_path, 15)
    assert read_checkpoint(previous_of(path))["global_step"] == 10


def test_without_a_good_one_training_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 10).write_bytes(b"")
    assert to_resume(tmp_path, ALONE) is None
    assert "there is none before it: training begins anew" in capsys.readouterr().out


def test_a_kill_between_two_names_of_the_last_checkpoint_loses_nothing(tmp_path: Path) -> None:
    path = save(tmp_path, 10)
    path.rename(previous_of(path))
    assert to_resume(tmp_path, ALONE) == previous_of(path)


def test_a_run_with_a_damaged_checkpoint_ends_as_one_without(
    words: list[str],
    mfcc_labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*words, f"--labels.folders=[{mfcc_labels}]", "--run.checkpoint_updates=1"]
    straight = [w for w in words if "run.dir" not in w] + [f"--run.dir={tmp_path / 'straight'}"]
    assert main(straight) == 0
    assert main(words) == 0
    (run,) = newest_first(tmp_path / "runs" / "tiny")
    (run / "result.json").unlink()
    (run / "metrics.json").unlink()
    last = run / "checkpoints" / "last.ckpt"
    wanted = last.read_bytes()
    last.write_bytes(wanted[: len(wanted) // 3])
    capsys.readouterr()
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "last.ckpt cannot be read: it is cut off or damaged" in said
    assert "resuming" in said
    (other,) = newest_first(tmp_path / "straight" / "tiny")
    assert last.read_bytes() == (other / "checkpoints" / "last.ckpt").read_bytes() == wanted
