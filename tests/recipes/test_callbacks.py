# SPDX-License-Identifier: Apache-2.0
"""When checkpoints are written: never within an update, nor before what its validation found."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wavlm_lightning.recipes.run import callbacks
from wavlm_lightning.recipes.run.callbacks import SaveAndStop
from wavlm_lightning.recipes.run.signals import StopSignal
from wavlm_lightning.recipes.superb.checkpoints import KeepEvenly


class Run:
    """A trainer that only counts: batches, updates of two batches each, and what is saved."""

    def __init__(self, tmp_path: Path, every: int, monkeypatch: pytest.MonkeyPatch):
        self.saved: list[tuple[int, str]] = []  # update, and what happened last before
        self.event = ""
        monkeypatch.setattr(callbacks, "point_to", lambda _: None)
        self.callback = SaveAndStop(tmp_path / "last.ckpt", every_updates=every)
        self.trainer: Any = SimpleNamespace(
            global_step=0,
            loggers=[],
            is_global_zero=True,
            state=SimpleNamespace(fn="fit"),
            strategy=SimpleNamespace(reduce_boolean_decision=lambda told, **_: told),
            save_checkpoint=lambda *_, **__: self.saved.append(
                (self.trainer.global_step, self.event)
            ),
        )

    def batch(self, *, completes: bool) -> None:
        self.event = "start of a batch"
        self.callback.on_train_batch_start(self.trainer)
        self.event = "end of a batch"
        if completes:
            self.trainer.global_step += 1
        self.callback.on_train_batch_end(self.trainer)

    def update(self) -> None:
        self.batch(completes=False)
        self.batch(completes=True)

    def validate(self) -> None:
        self.event = "end of a validation"
        self.callback.on_validation_end(self.trainer)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, 2, monkeypatch)


def test_a_save_waits_for_the_start_of_the_next_update(run: Run) -> None:
    for _ in range(5):
        run.update()
    assert run.saved == [(2, "start of a batch"), (4, "start of a batch")]


def test_a_save_holds_what_its_validation_found(run: Run) -> None:
    run.update()
    run.validate()
    assert run.saved == []
    run.update()
    run.validate()
    run.update()
    assert run.saved == [(1, "start of a batch"), (2, "start of a batch")]


def test_a_signal_stops_after_the_update_is_complete_and_saved(run: Run) -> None:
    run.batch(completes=False)
    run.callback.received = signal.SIGTERM
    run.batch(completes=True)
    assert run.saved == []
    with pytest.raises(StopSignal, match="stopped after update 1"):
        run.batch(completes=False)
    assert run.saved == [(1, "start of a batch")]


def test_evenly_spaced_checkpoints_are_written_once_and_include_the_last(tmp_path: Path) -> None:
    saved: list[str] = []
    trainer: Any = SimpleNamespace(
        global_step=0, save_checkpoint=lambda path, **_: saved.append(path.name)
    )
    keep = KeepEvenly(tmp_path, count=3, total_updates=10)
    for batch in range(20):  # two an update
        trainer.global_step = (batch + 1) // 2
        keep.on_train_batch_end(trainer)
    assert saved == ["update3.ckpt", "update7.ckpt", "update10.ckpt"]
