# SPDX-License-Identifier: Apache-2.0
"""Every task's sweep is one of W&B's, and its trials are runs of ours."""

from pathlib import Path

import pytest
from sweeps import next_runs, schema_violations_from_proposed_config

from wavlm_lightning.config import flat
from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.recipes.pretrain.settings import read_settings
from wavlm_lightning.recipes.run.curves import CURVES
from wavlm_lightning.recipes.superb.settings import read_probe_settings
from wavlm_lightning.recipes.sweep.__main__ import complete, sweep_of
from wavlm_lightning.recipes.sweep.local import check_config
from wavlm_lightning.recipes.sweep.trials import trial_command

ROOT = Path(__file__).parent.parent
TASKS = [name for name in task_names() if issubclass(load_task(name), TrainedTask)]
NAMES = [*TASKS, "pretrain"]


@pytest.fixture(autouse=True)
def _in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_sweep_of_wandb(name: str) -> None:
    _, config = sweep_of(name)
    assert list(schema_violations_from_proposed_config(config)) == []
    check_config(config)
    assert (ROOT / config["program"]).is_file()
    program = Path(config["program"]).parent.name
    assert config["command"][:3] == ["${env}", "wavlm", program]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("local", [True, False], ids=["local", "wandb"])
def test_every_trial_is_a_configuration(name: str, local: bool, tmp_path: Path) -> None:
    words = ["--optim.total_updates=777"]  # more than a warm-up
    config = complete(sweep_of(name)[1], "", words, name=name, local=local)
    runs = [run for run in next_runs(config, [], n=20) if run is not None]
    for run in (runs[0], runs[-1]):
        parameters = {key: entry["value"] for key, entry in run.config.items()}
        words = trial_command(config, parameters, tmp_path)[3:]
        if name == "pretrain":
            values = read_settings(words).values
        else:
            assert words[0] == name
            values = read_probe_settings(words[0], words[1], words[2:]).values
        found = flat(values)
        assert {key: found[key] for key in parameters} == parameters
        assert found["optim.total_updates"] == 777
        assert found["wandb.mode"] == ("disabled" if local else "online")
        assert found["run.dir"] == str(tmp_path)


@pytest.mark.parametrize("name", TASKS)
def test_metric_is_the_one_that_chooses_checkpoints(name: str) -> None:
    task, metric = load_task(name), sweep_of(name)[1]["metric"]
    assert metric["name"] == task.monitor
    assert metric["goal"] == {"min": "minimize", "max": "maximize"}[task.mode]


def test_pretraining_searches_a_loss_that_is_logged() -> None:
    metric = sweep_of("pretrain")[1]["metric"]
    assert metric["name"] in CURVES["masked loss (nats)"]
    assert metric["goal"] == "minimize"
