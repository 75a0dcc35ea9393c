# SPDX-License-Identifier: Apache-2.0
"""Hours of audio an hour, and the share of the machine's best."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wavlm_lightning.recipes.run import throughput
from wavlm_lightning.recipes.run.throughput import HOURS, SHARE, Throughput


class Module:
    def __init__(self) -> None:
        self.logged: dict[str, float] = {}

    def log_dict(self, figures: dict[str, float]) -> None:
        self.logged = dict(figures)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now.seconds)
    monkeypatch.setattr(throughput, "matrix_rate", lambda *_: 1000.0)
    return now


def test_an_update_counts_all_its_batches_and_no_validation(clock: SimpleNamespace) -> None:
    trainer: Any = SimpleNamespace(
        global_step=0,
        world_size=2,
        precision="32-true",
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    module: Any = Module()
    batch = SimpleNamespace(lengths=torch.tensor([16_000, 8_000]))
    callback = Throughput(lambda samples: samples / 100)
    callback.on_train_start(trainer)
    clock.seconds = 1.0
    callback.on_train_batch_end(trainer, module, None, batch, 0)
    assert module.logged == {}
    clock.seconds, trainer.global_step = 3.0, 1
    callback.on_train_batch_end(trainer, module, None, batch, 1)
    # 2 x 1.5 s in each of two processes within 3 s; 480 operations within 3 s of 1000 a second
    assert module.logged == {HOURS: pytest.approx(2.0), SHARE: pytest.approx(0.16)}
    clock.seconds = 100.0
    callback.on_validation_end(trainer)
    clock.seconds, trainer.global_step = 101.5, 2
    callback.on_train_batch_end(trainer, module, None, batch, 2)
    assert module.logged[HOURS] == pytest.approx(2.0)


def test_a_model_that_is_not_run_has_no_share(clock: SimpleNamespace) -> None:
    trainer: Any = SimpleNamespace(global_step=0, world_size=1)
    module: Any = Module()
    callback = Throughput(None)
    callback.on_train_start(trainer)
    clock.seconds, trainer.global_step = 1.0, 1
    batch = SimpleNamespace(lengths=torch.tensor([16_000]))
    callback.on_train_batch_end(trainer, module, None, batch, 0)
    assert module.logged == {HOURS: pytest.approx(1.0)}
