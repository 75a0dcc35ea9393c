# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of every task: what trains, stages one after another, low-rank updates, averages."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from wavlm_lightning import WavLM, WavLMConfig, load_wavlm
from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.model.checkpoint import save_released
from wavlm_lightning.recipes.finetune.__main__ import main
from wavlm_lightning.recipes.finetune.settings import read_stages
from wavlm_lightning.recipes.run import fit as run_fit

SHAPE = {"num_layers": 2, "dim": 48, "ffn_dim": 64, "num_heads": 4, "feature_encoder_dim": 16}
SHAPE |= {"position_kernel": 16, "position_groups": 4}
TRAINED = [name for name in task_names() if issubclass(load_task(name), TrainedTask)]
FEW_SPEAKERS = ["--task.held_out_speakers=3", "--task.min_seconds=0.5", "--task.best_of=2"]
State = dict[str, torch.Tensor]


@pytest.fixture
def encoder(tmp_path: Path) -> WavLM:
    torch.manual_seed(1)
    model = WavLM(dataclasses.replace(WavLMConfig.preset("base"), **SHAPE)).eval()
    save_released(model, tmp_path / "encoder.pt")
    return model


@pytest.fixture
def words(encoder: WavLM, probe_words: list[str], tmp_path: Path) -> list[str]:
    words = [word for word in probe_words if not word.startswith("--cache")]
    return [str(tmp_path / "encoder.pt"), *words, "--trainer.precision=32-true"]


def folder_of(tmp_path: Path, task: str, *, label: str = "tuned", runs: str = "runs") -> Path:
    return (tmp_path / runs / f"encoder+{label}" / task / "latest").resolve()


def state(folder: Path, name: str = "best") -> State:
    content = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    found: State = content["state_dict"]
    return found


def result(tmp_path: Path, task: str, label: str = "tuned") -> dict[str, Any]:
    path = tmp_path / "results" / f"encoder+{label}" / f"{task}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def changed(before: WavLM, after: State) -> set[str]:
    """Parts of the encoder that differ, as "encoder.layers.1"."""
    parts = set()
    for name, tensor in before.state_dict().items():
        if not torch.equal(tensor, after[f"model.{name}"]):
            parts.add(".".join(name.split(".")[: 3 if "layers" in name else 2]))
    return parts


@pytest.mark.parametrize("task", TRAINED)
def test_every_task_trains_its_encoder_and_is_scored_as_before(
    task: str, words: list[str], encoder: WavLM, tmp_path: Path
) -> None:
    more = FEW_SPEAKERS if task == "asv" else []
    assert main([task, *words, *more, "--optim.total_updates=2"]) == 0
    found = result(tmp_path, task)
    assert found["headline"] in found["metrics"]
    assert found["features"].startswith("computed at each use: the encoder trains")
    assert found["config"]["adaptation.encoder"] == "tuned"
    checkpoint = Path(found["checkpoint"])
    after = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert "encoder.layers.1" in changed(encoder, after)
    assert not any("feature_encoder" in part for part in changed(encoder, after))
    load_wavlm(checkpoint)


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        (["--adaptation.blocks=1"], {"encoder.layers.1"}),
        (["--adaptation.blocks=0"], set()),
        (["--featurizer.layer=1", "--adaptation.blocks=2"], {"encoder.layers.0"}),
        (["--adaptation.feature_encoder=true"], {"feature_encoder.layers.0", "encoder.layers.0"}),
        (["--optim.head_updates=6"], set()),
    ],
)
def test_what_trains_is_what_was_said(
    said: list[str], parts: set[str], words: list[str], encoder: WavLM, tmp_path: Path
) -> None:
    assert main(["ks", *words, *said]) == 0
    found = changed(encoder, state(folder_of(tmp_path, "ks"), "best"))
    assert parts <= found
    if "--adaptation.feature_encoder=true" not in said:
        assert found == parts


def test_low_rank_updates_are_left_merged(words: list[str], encoder: WavLM, tmp_path: Path) -> None:
    said = ["--adaptation.encoder=lora", "--adaptation.lora.layers=all"]
    assert main(["ks", *words, *said, "--optim.encoder_lr=0.1"]) == 0
    folder = folder_of(tmp_path, "ks", label="lora")
    assert changed(encoder, state(folder)) == {"encoder.layers.0", "encoder.layers.1"}
    tuned = load_wavlm(folder / "checkpoints" / "best.ckpt")
    before = encoder.encoder.layers[0].attention.query.weight
    update = tuned.encoder.layers[0].attention.query.weight - before
    assert torch.linalg.matrix_rank(update, atol=1e-5) <= 8
    assert result(tmp_path, "ks", "lora")["upstream"] == "encoder+lora"


STAGES = (
    "--stages=[{adaptation.encoder: frozen, optim.total_updates: 4, adaptation.take: TAKE}, "
    "{optim.total_updates: 5, data.batch_size: 3}]"
)


class StopAt(Callback):
    """SIGTERM after an update of a module of a class."""

    def __init__(self, kind: str, update: int):
        self.kind, self.update = kind, update

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if type(module).__name__ == self.kind and trainer.global_step == self.update:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("take", ["best", "last", "average"])
@pytest.mark.parametrize(("kind", "update"), [("Probe", 3), ("Finetuner", 3)])
def test_stages_that_were_stopped_end_as_if_they_never_were(
    take: str,
    kind: str,
    update: int,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [
        *words,
        STAGES.replace("TAKE", take),
        "--model.dropout=0.1",
        "--run.validate_updates=1",
    ]
    assert main(["ks", *words, f"--run.dir={tmp_path / 'straight'}"]) == 0
    wanted = result(tmp_path, "ks")
    callbacks = run_fit.callbacks
    with monkeypatch.context() as patch:
        patch.setattr(
            run_fit,
            "callbacks",
            lambda *a: [StopAt(kind, update), *callbacks(*a)],
        )
        assert main(["ks", *words]) == 143
    assert main(["ks", *words]) == 0
    straight = state(folder_of(tmp_path, "ks", runs="straight"))
    torch.testing.assert_close(state(folder_of(tmp_path, "ks")), straight, rtol=0, atol=0)
    assert result(tmp_path, "ks")["metrics"] == wanted["metrics"]


def test_a_stage_begins_with_what_the_one_before_left(
    words: list[str], encoder: WavLM, tmp_path: Path
) -> None:
    stages = STAGES.replace("TAKE", "last, optim.lr: 0.01")
    stages = stages.replace("total_updates: 5", "total_updates: 1")
    said = [stages, "--optim.encoder_lr=1e-12", "--optim.lr=1e-12"]
    words = [word for word in words if "--optim" not in word]
    assert main(["ks", *words, *said]) == 0  # nothing moves in the second stage
    folder = folder_of(tmp_path, "ks")
    first, second = state(folder / "stage1", "taken"), state(folder)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-8)
    torch.testing.assert_close(
        second["model.projection.weight"], encoder.projection.weight, rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("second", ["tuned", "lora"])
def test_a_tuned_encoder_is_handed_on(
    second: str, words: list[str], encoder: WavLM, tmp_path: Path
) -> None:
    said = f"--stages=[{{adaptation.take: last}}, {{adaptation.encoder: {second}, STILL}}]"
    said = said.replace("STILL", "optim.lr: 1.0e-12, optim.encoder_lr: 1.0e-12")
    assert main(["ks", *words, said, "--optim.encoder_lr=1e-2"]) == 0
    folder = folder_of(tmp_path, "ks", label=second)
    first, last = state(folder / "stage1", "taken"), state(folder)
    assert "encoder.layers.1" in changed(encoder, first)
    for name, tensor in first.items():
        torch.testing.assert_close(last[name], tensor, rtol=0, atol=1e-7)


def test_an_average_is_of_the_last_validations(words: list[str], tmp_path: Path) -> None:
    said = ["--adaptation.take=average", "--adaptation.average=2", "--run.validate_updates=1"]
    assert main(["ks", *words, *said]) == 0
    folder = folder_of(tmp_path, "ks") / "checkpoints"
    kept = sorted(path.name for path in (folder / "recent").iterdir())
    assert kept == ["update5.ckpt", "update6.ckpt"]
    states = [
        torch.load(folder / "recent" / name, weights_only=True)["state_dict"] for name in kept
    ]
    taken = torch.load(folder / "taken.ckpt", weights_only=True)["state_dict"]
    for name, tensor in taken.items():
        torch.testing.assert_close(tensor, (states[0][name] + states[1][name]) / 2)
    assert result(tmp_path, "ks")["checkpoint"].endswith("taken.ckpt")


def test_head_and_encoder_have_rates_of_their_own_and_follow_one_course(
    words: list[str], tmp_path: Path
) -> None:
    said = ["--optim.lr=1e-3", "--optim.encoder_lr=1e-4", "--optim.warmup_updates=3"]
    assert main(["ks", *words, *said, "--optim.schedule.name=linear"]) == 0
    (log,) = (folder_of(tmp_path, "ks") / "logs").rglob("metrics.csv")
    header, *rows = [line.split(",") for line in log.read_text().splitlines()]
    found = {
        name: [
            float(row[header.index(f"train/{name}")])
            for row in rows
            if row[header.index(f"train/{name}")]
        ]
        for name in ("lr", "encoder_lr")
    }
    assert found["lr"] == pytest.approx([1e-3 / 3, 1e-3 / 3, 2e-3 / 3, 1e-3, 2e-3 / 3, 1e-3 / 3])
    assert found["encoder_lr"] == pytest.approx([rate / 10 for rate in found["lr"]])


def test_a_stage_is_the_whole_with_its_differences(words: list[str]) -> None:
    stages = read_stages("ks", words[0], [*words[1:], STAGES.replace("TAKE", "last")])
    assert [s.adaptation.encoder for s in stages] == ["frozen", "tuned"]
    assert [s.optim.total_updates for s in stages] == [4, 5]
    assert [s.data.batch_size for s in stages] == [4, 3]
    assert [s.stages for s in stages] == [[], []]
    assert stages[0].sources["optim.total_updates"] == "stages, item 1"
    assert {s.upstream.name for s in stages} == {"encoder+tuned"}


def test_a_frozen_stage_comes_first(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ks", *words, "--stages=[{}, {adaptation.encoder: frozen}]"]) == 1
    assert "stages: a frozen encoder must come before" in capsys.readouterr().err


def test_a_head_that_does_not_fit_the_next_stage_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stages = "--stages=[{adaptation.encoder: frozen}, {task.width: 8}]"
    assert main(["asv", *words, *FEW_SPEAKERS, stages]) == 1
    assert "does not fit this stage: featurizer.layer and the head's" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ("[{upstream.source: a.pt}]", "upstream.source must be the same in all stages"),
        ("[{}, {run.dir: a}]", "stages, item 2: run.dir must be the same in all stages"),
        ("[{trainer: {devices: 2}}]", "trainer.devices must be the same in all stages"),
        ("[{featurizer.layer: 1}, {}]", "featurizer.layer must be null in all stages or in none"),
    ],
)
def test_a_difference_that_no_stage_can_have_is_refused_at_once(
    stages: str, said: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ks", *words, f"--stages={stages}"]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_what_is_wrong_with_the_last_stage_is_said_before_the_first_trains(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = "--stages=[{adaptation.encoder: frozen}, {task.held_out_speakers: 1}]"
    assert main(["asv", *words, *FEW_SPEAKERS, stages]) == 1
    assert "task.held_out_speakers must be 0 or at least 2" in capsys.readouterr().err
    assert list((tmp_path / "runs").rglob("stage1")) == []


def test_a_file_whose_name_is_no_plain_one_gives_a_plain_folder(
    words: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "my $HOME file.yaml"
    file.write_text("optim: {lr: 0.1}\n")
    (settings,) = read_stages("ks", words[0], [*words[1:], f"--config={file}"])
    assert settings.upstream.name == "encoder+my__HOME_file"
