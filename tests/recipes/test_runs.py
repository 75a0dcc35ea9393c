# SPDX-License-Identifier: Apache-2.0
"""Folders of runs: which one is gone on with, where `latest` points, what a failed start leaves."""

from pathlib import Path

import pytest

from wavlm_lightning.recipes.pretrain.__main__ import main
from wavlm_lightning.recipes.run.folder import LATEST, RESULT, open_run, point_to, running
from wavlm_lightning.recipes.run.processes import Processes

ALONE = Processes(0, 1, 1)


def begin(parent: Path, values: dict[str, object], *, finished: bool = False) -> Path:
    """A run that has a checkpoint, or a result too."""
    with running(parent, values, resume=True, processes=ALONE) as folder:
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "last.ckpt").touch()
        if finished:
            (folder / RESULT).touch()
        point_to(folder / "checkpoints" / "last.ckpt")
    return folder


def test_latest_is_the_newest_finished_run_and_before_that_the_newest_with_a_checkpoint(
    tmp_path: Path,
) -> None:
    first = begin(tmp_path, {"lr": 1})
    assert (tmp_path / LATEST).resolve() == first
    second = begin(tmp_path, {"lr": 2})
    assert (tmp_path / LATEST).resolve() == second
    begin(tmp_path, {"lr": 1}, finished=True)
    assert (tmp_path / LATEST).resolve() == first
    begin(tmp_path, {"lr": 3})
    assert (tmp_path / LATEST).resolve() == first
    begin(tmp_path, {"lr": 2}, finished=True)
    assert (tmp_path / LATEST).resolve() == second


def test_a_start_that_fails_before_it_has_anything_leaves_no_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with running(tmp_path, {}, resume=True, processes=ALONE):
            raise ValueError("as if the recordings could not be read")

    with pytest.raises(ValueError, match="as if"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_a_start_has_is_kept_when_it_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with running(tmp_path, {}, resume=True, processes=ALONE) as folder:
            (folder / "manifests").mkdir()
            raise ValueError("as if the labels could not be made")

    with pytest.raises(ValueError, match="as if"):
        fail()
    (kept,) = tmp_path.iterdir()
    assert (kept / "manifests").is_dir()
    again = open_run(tmp_path, {}, resume=True)
    assert again.path == kept
    again.lock.close()


def test_parts_of_a_killed_writer_are_removed_when_a_run_goes_on(tmp_path: Path) -> None:
    folder = begin(tmp_path, {})
    part = folder / "checkpoints" / ".last.ckpt.1.part"
    part.touch()
    assert begin(tmp_path, {}) == folder
    assert not part.exists()


def test_a_run_whose_configuration_is_damaged_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = begin(tmp_path, {"lr": 1})
    (folder / "config.yaml").write_text("lr: [")
    assert begin(tmp_path, {"lr": 1}) != folder


def test_a_mistyped_folder_after_a_finished_run_changes_nothing(
    words: list[str], mfcc_labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words, f"--labels.folders=[{mfcc_labels}]", "--optim.total_updates=2"]
    assert main([*words, "--run.validate_updates=2"]) == 0
    before = sorted(tmp_path.rglob("*"))
    finished = (tmp_path / "runs" / "tiny" / LATEST).resolve()
    for word in ("--data.root=/no/such", "--data.noise=/no/such"):
        assert main([*words, word]) == 1
        assert f"{word.removeprefix('--')} is not a folder" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "runs" / "tiny" / LATEST).resolve() == finished
    assert (finished / RESULT).is_file()


def test_a_model_of_other_recordings_does_not_take_the_mini_ones_place(
    recordings: Path, tmp_path: Path
) -> None:
    from wavlm_lightning.recipes.pretrain.settings import read_settings

    words = ["--config=configs/pretrain/mini.yaml"]
    assert read_settings(words).run.name == "mini"
    own = read_settings([*words, f"--data.root={recordings / 'speech'}"])
    assert own.run.name == "mini-speech"
    assert read_settings([*words, "--data.root=x", "--run.name=mine"]).run.name == "mine"
    base = read_settings(["--config=configs/pretrain/base.yaml", "--data.root=LibriSpeech2"])
    assert base.run.name == "base"
