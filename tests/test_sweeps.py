# SPDX-License-Identifier: Apache-2.0
"""Every file in configs/sweeps is a sweep of W&B's, and its trials are runs of ours."""

from pathlib import Path

import pytest
from sweeps import next_runs, schema_violations_from_proposed_config

from downstream import load_task
from recipes.pretrain.settings import read_settings
from recipes.run.curves import CURVES
from recipes.superb.settings import read_probe_settings
from recipes.sweep.__main__ import read_sweep
from recipes.sweep.local import check_config
from recipes.sweep.trials import trial_command
from wavlm_lightning.config import flat, read_yaml

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
TASKS = [file for file in FILES if file.stem != "pretrain"]


@pytest.fixture(autouse=True)
def _in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_file_is_a_sweep_of_wandb(file: Path) -> None:
    config = read_yaml(file)
    assert list(schema_violations_from_proposed_config(config)) == []
    check_config(config)
    assert (ROOT / config["program"]).is_file()
    module = config["program"].removesuffix("/__main__.py").replace("/", ".")
    assert config["command"][3] == module


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
@pytest.mark.parametrize("local", [True, False], ids=["local", "wandb"])
def test_every_trial_is_a_configuration(file: Path, local: bool, tmp_path: Path) -> None:
    words = ["--optim.total_updates=777"]  # more than a warm-up
    config = read_sweep(file, "", words, local=local)
    runs = [run for run in next_runs(config, [], n=20) if run is not None]
    for run in (runs[0], runs[-1]):
        parameters = {key: entry["value"] for key, entry in run.config.items()}
        words = trial_command(config, parameters, tmp_path)[4:]
        if file.stem == "pretrain":
            values = read_settings(words).values
        else:
            assert words[0] == file.stem
            values = read_probe_settings(words[0], words[1], words[2:]).values
        found = flat(values)
        assert {key: found[key] for key in parameters} == parameters
        assert found["optim.total_updates"] == 777
        assert found["wandb.mode"] == ("disabled" if local else "online")
        assert found["run.dir"] == str(tmp_path)


@pytest.mark.parametrize("file", TASKS, ids=lambda f: f.stem)
def test_metric_is_the_one_that_chooses_checkpoints(file: Path) -> None:
    task, metric = load_task(file.stem), read_yaml(file)["metric"]
    assert metric["name"] == task.monitor
    assert metric["goal"] == {"min": "minimize", "max": "maximize"}[task.mode]


def test_pretraining_searches_a_loss_that_is_logged() -> None:
    metric = read_yaml(ROOT / "configs" / "sweeps" / "pretrain.yaml")["metric"]
    assert metric["name"] in CURVES["masked loss (nats)"]
    assert metric["goal"] == "minimize"
