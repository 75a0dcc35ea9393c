# SPDX-License-Identifier: Apache-2.0
"""Whatever is mistyped is told before the mini model is trained for it."""

import shutil
from pathlib import Path

import pytest

from wavlm_lightning.recipes.finetune.__main__ import main as finetune
from wavlm_lightning.recipes.run import mini_model
from wavlm_lightning.recipes.run import program as run_program
from wavlm_lightning.recipes.run.mini_model import MINI_CONFIG, MINI_RUN
from wavlm_lightning.recipes.superb import __main__ as superb_main
from wavlm_lightning.recipes.superb.__main__ import main as superb
from wavlm_lightning.recipes.superb.job import TaskJob
from wavlm_lightning.recipes.sweep import __main__ as sweep_main
from wavlm_lightning.recipes.sweep.__main__ import main as sweep

ROOT = Path(__file__).parent.parent.parent
MINI = "wavlm_mini"


class TrainedError(Exception):
    """Training was begun."""


@pytest.fixture(autouse=True)
def _empty_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh clone, in which a training of the mini model is noticed and not done."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)

    def trained() -> None:
        raise TrainedError

    for program in (
        run_program,
        superb_main,
        sweep_main,
    ):
        monkeypatch.setattr(program, "train_mini", trained)
    monkeypatch.setattr(sweep_main, "check_account", lambda _: None)


@pytest.mark.parametrize(
    ("program", "words", "wanted"),
    [
        (superb, ["avs", "wavlm_mini"], "no task avs; there are"),
        (superb, ["asv", "wavlm_mini", "--optim.lrr=1"], "optim.lrr is not a configuration key"),
        (superb, ["all", "wavlm_mini", "--optim.lr=fast"], "optim.lr must be a number (got fast)"),
        (superb, ["asv", "wavlm_mini", "--paths.voxceleb1=/no"], "paths.voxceleb1=/no: no such"),
        (superb, ["er", "wavlm_mini", "--data.manifest=/no"], "data.manifest=/no"),
        (superb, ["asv", "wavlm_min"], "no upstream wavlm_min"),
        (superb, ["asv", "wavlm_mini", "--tensorboard=true"], "tensorboard=true needs"),
        (finetune, ["ctv", MINI], "no task ctv; there are"),
        (finetune, ["ctc", MINI, "--optim.lrr=1"], "optim.lrr is not a configuration key"),
        (
            finetune,
            ["ctc", MINI, "--paths.librispeech=/no", "--protocol=mini"],
            "paths.librispeech=/no: no such",
        ),
        (
            finetune,
            ["ctc", MINI, "--config=configs/finetune/nothing.yaml"],
            "no configuration file",
        ),
        (sweep, ["avs"], "no sweep avs"),
        (sweep, ["asv", "--upstream=wavlm_min"], "no upstream wavlm_min"),
        (sweep, ["asv", "--", "--optim.total=5"], "optim.total is not a configuration key"),
        (sweep, ["asv", "--local", "--", "--task.margin=x"], "task.margin must be a number"),
        (sweep, ["pretrain", "--", "--data.batch=5"], "data.batch is not a configuration key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistyped_word_costs_no_training(
    program: object, words: list[str], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(words) == 1  # type: ignore[operator]
    said = capsys.readouterr().err
    assert wanted in said
    assert said.count("\n") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("program", "words"),
    [(finetune, ["ctc", MINI]), (sweep, ["asv"]), (sweep, ["asv", "--local"])],
)
def test_the_mini_model_is_trained_where_it_is_missing(
    program: object, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskJob, "check_recordings", lambda _: None)  # it makes the mini corpus
    with pytest.raises(TrainedError):
        program(words)  # type: ignore[operator]


def test_a_training_that_fails_is_an_error_and_one_that_is_stopped_a_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from wavlm_lightning.config import ConfigError
    from wavlm_lightning.recipes.run.mini_model import is_missing, train_mini
    from wavlm_lightning.recipes.run.signals import StopSignal

    ran, statuses = [], [1, 143]

    def child(command: list[str]) -> int:
        ran.append(command)
        return statuses.pop(0)

    monkeypatch.setattr(mini_model, "run_child", child)
    for error in (ConfigError, StopSignal):
        with pytest.raises(error):
            train_mini()
    assert ran[0][-2:] == ["wavlm_lightning.recipes.pretrain", f"--config={MINI_CONFIG}"]
    assert is_missing(str(MINI_RUN / "checkpoints" / "last.ckpt"))
    MINI_RUN.mkdir(parents=True)
    assert is_missing(str(MINI_RUN / "checkpoints" / "last.ckpt"))  # under way
    (MINI_RUN / "result.json").touch()
    assert not is_missing(str(MINI_RUN / "checkpoints" / "last.ckpt"))
    assert not is_missing("other.ckpt")
    assert not is_missing(None)
