# SPDX-License-Identifier: Apache-2.0
"""Every argument of Lightning's Trainer is a key of ours, or a line says which key does it."""

import dataclasses
import inspect
import json
from pathlib import Path

import lightning
import numpy as np
import pytest

from wavlm_lightning.downstream import task_names
from wavlm_lightning.downstream.config import DataConfig
from wavlm_lightning.downstream.data.plan import TrainPlan
from wavlm_lightning.pretrain.batches import BatchPlan
from wavlm_lightning.recipes.pretrain.__main__ import main as pretrain
from wavlm_lightning.recipes.run.sections import INSTEAD, TrainerSection
from wavlm_lightning.recipes.superb.__main__ import main as superb

OURS = {"tf32"}  # no argument of Lightning's
FEW_SPEAKERS = ["--task.held_out_speakers=3", "--task.min_seconds=0.5"]
Output = pytest.CaptureFixture[str]


def test_every_argument_is_a_key_or_has_a_hint() -> None:
    keys = {field.name for field in dataclasses.fields(TrainerSection)}
    arguments = set(inspect.signature(lightning.Trainer.__init__).parameters) - {"self"}
    assert keys - OURS <= arguments
    assert set(INSTEAD) <= arguments
    assert arguments - keys - set(INSTEAD) == set()
    assert not keys & set(INSTEAD)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("--trainer.max_epochs=3", "trainer.max_epochs is not a configuration key: set optim.tot"),
        ("--trainer.overfit_batches=1", "set data.repeat_updates=N"),
        ("--trainer.num_nodes=2", "torchrun --nnodes=N"),
    ],
)
@pytest.mark.parametrize("program", ["pretrain", "superb"])
def test_a_hint_is_an_error_of_one_line(
    program: str, word: str, hint: str, words: list[str], capsys: Output
) -> None:
    argv = words if program == "pretrain" else ["ks", "fbank"]
    assert (pretrain if program == "pretrain" else superb)([*argv, word]) == 1
    said = capsys.readouterr().err
    assert hint in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        (
            "--model.frontend_dim=64",
            "model.frontend_dim is not a configuration key: set model.feat",
        ),
        ("--teachers=[]", "teachers is not a configuration key: set iterations"),
    ],
)
def test_an_earlier_key_names_the_one_of_today(
    word: str, hint: str, words: list[str], capsys: Output
) -> None:
    assert pretrain([*words, word]) == 1
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("task", task_names())
def test_a_fast_dev_run_of_a_task_ends_and_leaves_its_result_apart(
    task: str, probe_words: list[str], tmp_path: Path
) -> None:
    more = FEW_SPEAKERS if task == "asv" else []
    assert superb([task, "fbank", *probe_words, *more, "--trainer.fast_dev_run=2"]) == 0
    assert not (tmp_path / "results").exists()
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["fast_dev_run"]
    (path,) = (tmp_path / "runs" / "fast_dev_run" / "results").rglob("*.json")
    config = json.loads(path.read_text())["config"]
    assert config["optim.total_updates"] == 2
    assert config["trainer.limit_test_batches"] == 2


def test_a_fast_dev_run_of_pretraining_ends_and_is_no_upstream(
    words: list[str], tmp_path: Path
) -> None:
    assert pretrain([*words, "--trainer.fast_dev_run=true"]) == 0
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["fast_dev_run"]
    (path,) = (tmp_path / "runs" / "fast_dev_run" / "tiny" / "latest").glob("result.json")
    assert json.loads(path.read_text())["config"]["optim.total_updates"] == 1


def test_fast_dev_run_says_its_type(capsys: Output) -> None:
    assert superb(["ks", "fbank", "--trainer.fast_dev_run=quick"]) == 1
    said = capsys.readouterr().err
    assert "trainer.fast_dev_run must be a whole number or true or false (got quick)" in said


@pytest.mark.parametrize("order", ["random", "bucketed"])
def test_a_task_repeats_its_first_updates(order: str) -> None:
    lengths = np.arange(16_000, 32_000, 500)
    config = DataConfig(batch_size=4, batches_per_update=2, order=order)  # type: ignore[arg-type]
    whole = TrainPlan(lengths, config, seed=0)
    few = TrainPlan(lengths, dataclasses.replace(config, repeat_updates=3), seed=0)
    assert [few.update(n) for n in range(7)] == [whole.update(n % 3) for n in range(7)]
    assert whole.update(0) != whole.update(3)


def test_pretraining_repeats_its_first_updates() -> None:
    lengths = np.arange(16_000, 48_000, 500)
    plans = [BatchPlan(lengths, 8.0, 2, 48_000, 0, None, repeat) for repeat in (None, 2)]
    whole, few = plans
    assert few.updates == 2 < whole.updates
    assert few.left_out == whole.left_out
    for epoch in (0, 1, 5):
        for ours, theirs in zip(few.epoch(epoch), whole.epoch(0)[:2], strict=True):
            assert [b.tolist() for b in ours] == [b.tolist() for b in theirs]
    assert [b.tolist() for b in whole.epoch(1)[0]] != [b.tolist() for b in whole.epoch(0)[0]]
