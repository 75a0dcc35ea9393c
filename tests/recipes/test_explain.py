# SPDX-License-Identifier: Apache-2.0
"""A configuration that is shown is the one that is used, and every key is explained."""

import dataclasses
from pathlib import Path

import pytest
import torch

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.config import flat
from wavlm_lightning.model.checkpoint import save_released
from wavlm_lightning.recipes.config import main as config
from wavlm_lightning.recipes.finetune.__main__ import main as finetune
from wavlm_lightning.recipes.pretrain.__main__ import main as pretrain
from wavlm_lightning.recipes.pretrain.settings import read_settings
from wavlm_lightning.recipes.superb.__main__ import main as superb
from wavlm_lightning.recipes.superb.settings import read_probe_settings

Output = pytest.CaptureFixture[str]


def rows(text: str) -> dict[str, tuple[str, str]]:
    """Key -> value and source of a configuration that was shown."""
    found = {}
    for line in text.strip().splitlines():
        key, rest = line.split(None, 1)
        value, _, source = rest.rpartition("  # ")
        found[key] = value.strip(), source
    return found


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    shape = {"num_layers": 2, "dim": 48, "ffn_dim": 64, "num_heads": 4, "feature_encoder_dim": 16}
    path = tmp_path / "encoder.pt"
    save_released(WavLM(dataclasses.replace(WavLMConfig.mini(), **shape)), path)
    return path


def test_pretraining_shows_what_it_would_take(capsys: Output) -> None:
    words = ["--config=configs/pretrain/mini.yaml", "--optim.lr=1e-4"]
    assert pretrain([*words, "--print_config"]) == 0
    said = capsys.readouterr().out
    assert config(words) == 0
    assert capsys.readouterr().out == said
    shown, values = rows(said), flat(read_settings(words).values)
    assert shown.keys() == values.keys()
    assert shown["optim.lr"] == ("0.0001", "the command line")
    assert shown["optim.clip"] == ("10.0", "configs/pretrain/mini.yaml")
    assert shown["model.dim"] == ("192", "model.size")
    assert shown["compile"] == ("false", "default")
    assert not Path("runs/pretrain/mini/none").exists()


def test_a_task_shows_what_it_would_take(capsys: Output) -> None:
    assert superb(["asv", "fbank", "--task.width=7", "--print_config"]) == 0
    said = capsys.readouterr().out
    assert config(["asv", "fbank", "--task.width=7"]) == 0
    assert capsys.readouterr().out == said
    shown = rows(said)
    values = flat(read_probe_settings("asv", "fbank", ["--task.width=7"]).values)
    assert shown.keys() == values.keys()
    assert shown["task.width"] == ("7", "the command line")
    assert shown["task.scale"] == ("30.0", "configs/superb/asv.yaml")
    assert shown["optim.total_updates"] == ("1000", "configs/superb/asv.yaml: mini")
    assert shown["upstream.kind"] == ("fbank", "configs/upstream/fbank.yaml")
    assert shown["upstream.name"] == ("fbank", "UPSTREAM")
    assert shown["protocol"] == ("mini", "where the recordings come from")


def test_a_fine_tuning_shows_each_of_its_stages(encoder: Path, capsys: Output) -> None:
    stages = "--stages=[{adaptation.encoder: frozen}, {optim.lr: 0.5}]"
    assert config(["finetune", "er", str(encoder), stages]) == 0
    first, second = capsys.readouterr().out.split("stage 2\n")
    one, two = rows(first.removeprefix("stage 1\n")), rows(second)
    assert one["adaptation.encoder"] == ("frozen", "stages, item 1")
    assert two["adaptation.encoder"] == ("tuned", "configs/finetune/any.yaml")
    assert two["optim.lr"] == ("0.5", "stages, item 2")
    assert two["model.dim"] == ("48", "the encoder")


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ["asv", "fbank", "--task.width=7"],
            ["--task.width=7  (a whole number, from the command line)", "of the x-vector's layers"],
        ),
        (["--optim.lr=1"], ["the first two arguments must be a task and an upstream; tasks: asr,"]),
    ],
)
def test_help_of_a_task_explains_keys(words: list[str], lines: list[str], capsys: Output) -> None:
    assert superb([*words, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("SUPERB on a frozen upstream")
    for line in lines:
        assert line in said


def test_help_says_what_must_be_set(capsys: Output, encoder: Path) -> None:
    assert pretrain(["--help"]) == 0
    said = capsys.readouterr().out
    assert "--data.root=must be set  (a text)\n    folder of recordings" in said
    assert "--optim.schedule.name=linear  (one of constant, linear, inverse_sqrt, tri" in said
    assert finetune(["ctc", str(encoder), "--help"]) == 0
    assert "--adaptation.blocks=null  (a whole number or null)" in capsys.readouterr().out


@pytest.mark.parametrize("program", ["pretrain", "superb", "finetune"])
def test_what_is_wrong_is_said_and_not_shown(program: str, capsys: Output, encoder: Path) -> None:
    words = {
        "pretrain": ["--config=configs/pretrain/mini.yaml"],
        "superb": ["er", "fbank"],
        "finetune": ["finetune", "er", str(encoder)],
    }[program]
    assert config([*words, "--optim.lr=fast"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: optim.lr must be a number (got fast)\n"
