# SPDX-License-Identifier: Apache-2.0
"""The whole chain: what it leaves, that it goes on after any stop, processes that share work."""

import contextlib
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from wavlm_lightning import load_wavlm
from wavlm_lightning.pretrain.labels import open_labels
from wavlm_lightning.pretrain.manifest import read_manifest
from wavlm_lightning.recipes.pretrain.__main__ import main
from wavlm_lightning.recipes.pretrain.settings import read_settings
from wavlm_lightning.recipes.run import fit as run_fit
from wavlm_lightning.recipes.run.curves import read_curves
from wavlm_lightning.recipes.run.folder import open_run

ROOT = Path(__file__).parent.parent.parent


def latest(words: list[str]) -> Path:
    runs = next(w.partition("=")[2] for w in words if w.startswith("--run.dir="))
    return Path(runs) / "tiny" / "latest"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = content["state_dict"]
    return {k: v for k, v in state.items() if not k.startswith("metrics")}


def start(words: list[str], *before: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *before, "-m", "wavlm_lightning.recipes.pretrain", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Shells have their background commands ignore Ctrl-C, and so would all that these start.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


class AtUpdate(Callback):
    """Do something after an update."""

    def __init__(self, update: int, action: Any):
        self.update, self.action = update, action

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step == self.update:
            self.action(module)


def add_callback(monkeypatch: pytest.MonkeyPatch, callback: Callback) -> None:
    """Let every Trainer that the recipe builds have one more callback, the first of all."""
    build = run_fit.callbacks
    monkeypatch.setattr(run_fit, "callbacks", lambda *a: [callback, *build(*a)])


def test_chain_leaves_what_the_contract_says(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    folder = latest(words)
    result = json.loads((folder / "result.json").read_text())
    for key in ("dev/accuracy_masked", "dev_mixed/accuracy_masked", "dev/majority"):
        assert 0 <= result["metrics"][key] <= 1
    assert result["metrics"]["labels.mfcc/codes_used"] == 5
    assert "labels.hidden/entropy_bits" in result["metrics"]
    assert result["counts"]["train_utterances"] == 12
    assert result["config"]["optim.lr"] == 1e-3
    assert len(result["checkpoint_sha256"]) == 64
    for name in ("config.yaml", "curves.png", "checkpoints/last.ckpt", "iteration1/curves.png"):
        assert (folder / name).is_file()
    assert len(load_wavlm(folder / "checkpoints" / "last.ckpt").encoder.layers) == 2
    said = capsys.readouterr().out
    assert "masked accuracy, clean dev speech" in said
    assert "next: " in said


def test_a_teacher_may_learn_from_recordings_of_its_own(
    words: list[str], recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the released models' did: LibriSpeech's labels for a mix that is a hundred times it."""
    other = tmp_path / "other"
    for path in sorted((recordings / "speech" / "train").iterdir())[:8]:
        (other / "train").mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, other / "train" / path.name)
    shutil.copytree(recordings / "speech" / "dev", other / "dev")
    teacher = {"labels.features": "mfcc", "mixing.prob": 0.0, "optim.total_updates": 3}
    teacher |= {"data.root": str(other), "data.noise": None, "optim.warmup_updates": 1}
    assert main([*words, f"--iterations={json.dumps([teacher])}"]) == 0
    folder = latest(words)
    first, last = folder / "iteration1", folder
    listed = {run: read_manifest(run / "manifests" / "train.tsv") for run in (first, last)}
    assert (listed[first].root, len(listed[first])) == (other.resolve(), 8)
    assert (listed[last].root, len(listed[last])) == ((recordings / "speech").resolve(), 12)
    assert not (first / "manifests" / "noise_train.tsv").exists()
    for run in (first, last):
        labels = open_labels(run / "labels", "train", listed[run])
        assert len(labels.offsets) == len(listed[run]) + 1
    counts = json.loads((folder / "result.json").read_text())["counts"]
    assert (counts["train_utterances"], counts["iteration1: train_utterances"]) == (12, 8)
    teacher["data.root"] = str(tmp_path / "nowhere")
    assert main([*words, f"--iterations={json.dumps([teacher])}"]) == 1
    assert "iterations, item 1: data.root=" in capsys.readouterr().err


def test_all_recordings_are_looked_at_before_the_first_iteration_trains(
    words: list[str], recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad file of a later iteration would else end the run days after its start."""
    other = tmp_path / "other"
    shutil.copytree(recordings / "speech", other)
    first = {"labels.features": "mfcc", "mixing.prob": 0.0, "optim.total_updates": 3}
    second = {"labels.layer": 1, "mixing.prob": 0.0, "optim.total_updates": 3}
    third = {**second, "data.root": str(other), "data.noise": None}
    (other / "train" / "00.wav").write_bytes(b"")
    iterations = f"--iterations={json.dumps([first, second, third])}"
    assert main([*words, iterations]) == 1
    assert "00.wav: empty file" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))
    shutil.copy2(recordings / "speech" / "train" / "00.wav", other / "train" / "00.wav")
    both = f"--iterations={json.dumps([{**third, 'labels.features': 'mfcc'}, third])}"
    assert main([*words, both, "--run.name=shared"]) == 0
    run = tmp_path / "runs" / "shared" / "latest"
    made = [p for p in run.rglob("manifests") if p.is_dir()]
    assert len(made) == 2  # of the last iteration, and of both teachers together


def test_a_hubert_is_trained_by_the_same_chain(words: list[str], mfcc_labels: Path) -> None:
    own = [f"--labels.folders=[{mfcc_labels}]", "--model.position_bias=none", "--mixing.prob=0"]
    assert main([*words, *own]) == 0
    model = load_wavlm(latest(words) / "checkpoints" / "last.ckpt")
    assert not [name for name in model.state_dict() if "gate" in name or "position_bias" in name]


def test_logs_hold_both_validations_and_the_training_curve(
    words: list[str], mfcc_labels: Path
) -> None:
    assert main([*words, f"--labels.folders=[{mfcc_labels}]"]) == 0
    curves = read_curves(latest(words))
    assert len(curves["train/loss"]) == 8
    assert len(curves["dev/accuracy_masked"]) >= 2
    assert len(curves["dev_mixed/loss"]) >= 2


def test_run_stopped_by_sigterm_goes_on_as_if_never_stopped(
    words: list[str], mfcc_labels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = [*words, f"--labels.folders=[{mfcc_labels}]", "--model.dropout=0.1"]
    straight = [w for w in words if "run.dir" not in w] + [f"--run.dir={tmp_path / 'straight'}"]
    assert main(straight) == 0
    with monkeypatch.context() as patch:
        # Update 5 is no multiple of the checkpoint interval, and not the end of an epoch.
        add_callback(patch, AtUpdate(5, lambda _: os.kill(os.getpid(), signal.SIGTERM)))
        assert main(words) == 143
    assert not (latest(words) / "result.json").exists()
    stopped = latest(words).resolve()
    assert main(words) == 0
    assert latest(words).resolve() == stopped
    torch.testing.assert_close(weights(stopped), weights(latest(straight)), rtol=0, atol=0)
    curves, wanted = read_curves(stopped), read_curves(latest(straight))
    assert curves["train/loss"] == wanted["train/loss"]


def test_run_that_dies_within_an_update_after_a_resume_is_exact(
    words: list[str], mfcc_labels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = [*words, f"--labels.folders=[{mfcc_labels}]"]
    straight = [w for w in words if "run.dir" not in w] + [f"--run.dir={tmp_path / 'straight'}"]
    assert main(straight) == 0

    def die(_: Any) -> None:
        raise RuntimeError("as if the machine had failed")

    with monkeypatch.context() as patch:
        add_callback(patch, AtUpdate(4, lambda _: os.kill(os.getpid(), signal.SIGTERM)))
        assert main(words) == 143
    with monkeypatch.context() as patch:
        # After the first of two batches of update 5, when four updates are done.
        add_callback(patch, AtUpdate(4, die))
        with contextlib.suppress(RuntimeError):
            main(words)
    gc.collect()  # the frames of the failed run hold its lock
    assert main(words) == 0
    torch.testing.assert_close(weights(latest(words)), weights(latest(straight)), rtol=0, atol=0)


@pytest.mark.slow
def test_ctrl_c_reaches_all_processes_and_saves(words: list[str], mfcc_labels: Path) -> None:
    words = [
        *words,
        f"--labels.folders=[{mfcc_labels}]",
        "--optim.total_updates=2000",
        "--data.num_workers=2",
    ]
    process = start(words)
    checkpoint = latest(words) / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    before = checkpoint.stat().st_mtime_ns
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143, said[-2000:]
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert checkpoint.stat().st_mtime_ns > before


def test_two_commands_do_not_write_into_one_run(
    words: list[str], mfcc_labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words, f"--labels.folders=[{mfcc_labels}]"]
    settings = read_settings(words)
    first = open_run(Path(settings.run.dir) / settings.run.name, settings.values, resume=True)
    assert main(words) == 1
    assert f"{first.path} is in use by process {os.getpid()} on " in capsys.readouterr().err


def test_training_without_mixing_still_validates_on_mixed_speech(
    words: list[str], mfcc_labels: Path
) -> None:
    words = [*words, f"--labels.folders=[{mfcc_labels}]"]
    assert main([*words, "--mixing.prob=0", "--data.noise=null"]) == 0
    curves = read_curves(latest(words))
    assert set(curves["train/mixed_share"].values()) == {0.0}
    assert curves["dev/loss"] != curves["dev_mixed/loss"]


def test_two_label_sets_train_together(words: list[str], mfcc_labels: Path) -> None:
    assert main([*words, f"--labels.folders=[{mfcc_labels},{mfcc_labels}]"]) == 0
    state = weights(latest(words))
    assert state["objective.classes"].shape == (10, 16)
    assert state["objective.projection.weight"].shape == (32, 32)


@pytest.mark.slow
def test_killed_run_goes_on_from_its_last_checkpoint(
    words: list[str], mfcc_labels: Path, tmp_path: Path
) -> None:
    words = [*words, f"--labels.folders=[{mfcc_labels}]", "--optim.total_updates=24"]
    process = start(words)
    checkpoint = latest(words) / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed = latest(words).resolve()
    assert not (killed / "result.json").exists()
    assert main(words) == 0
    assert latest(words).resolve() == killed
    straight = [w for w in words if "run.dir" not in w] + [f"--run.dir={tmp_path / 'straight'}"]
    assert main(straight) == 0
    torch.testing.assert_close(weights(killed), weights(latest(straight)), rtol=0, atol=0)


@pytest.mark.slow
def test_two_processes_equal_one_on_the_same_updates(
    words: list[str], mfcc_labels: Path, tmp_path: Path
) -> None:
    # With dropout and LayerDrop: what they draw depends on a batch's place in its update.
    words = [*words, f"--labels.folders=[{mfcc_labels}]", "--model.dropout=0.1"]
    one = [w for w in words if "run.dir" not in w] + [f"--run.dir={tmp_path / 'one'}"]
    assert main(one) == 0
    process = start([*words, "--trainer.devices=2"])
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-2000:]
    assert "2 process(es)" in out
    torch.testing.assert_close(weights(latest(words)), weights(latest(one)), rtol=1e-4, atol=1e-5)
    a, b = (json.loads((latest(w) / "result.json").read_text())["metrics"] for w in (words, one))
    assert a["dev/loss"] == pytest.approx(b["dev/loss"], abs=1e-4)
    assert a["audio_hours"] == pytest.approx(b["audio_hours"])


def test_run_with_other_settings_does_not_touch_the_unfinished_one(
    words: list[str],
    mfcc_labels: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*words, f"--labels.folders=[{mfcc_labels}]"]
    with monkeypatch.context() as patch:
        add_callback(patch, AtUpdate(2, lambda _: os.kill(os.getpid(), signal.SIGTERM)))
        assert main(words) == 143
    stopped = latest(words).resolve()
    assert main([*words, "--optim.lr=2e-3"]) == 0
    assert latest(words).resolve() != stopped
    assert "settings differ" in capsys.readouterr().out
    assert (stopped / "checkpoints" / "last.ckpt").is_file()


def test_non_finite_loss_stops_with_the_utterances_and_saves_the_batch(
    words: list[str],
    mfcc_labels: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def poison(module: Any) -> None:
        module.model.projection.weight.data.fill_(float("nan"))

    add_callback(monkeypatch, AtUpdate(3, poison))
    assert main([*words, f"--labels.folders=[{mfcc_labels}]"]) == 1
    said = capsys.readouterr().err
    assert "the loss of update 3 is not finite; utterances: train/" in said
    saved = next(latest(words).glob("nonfinite-update3-rank0.pt"))
    batch = torch.load(saved, weights_only=True)
    assert all(name in said for name in batch["ids"])
    assert (latest(words) / "checkpoints" / "last.ckpt").is_file()


def test_offline_wandb_run_holds_the_flat_configuration(
    words: list[str], mfcc_labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    logged: dict[str, Any] = {}
    init = wandb.init

    def remember(**kwargs: Any) -> Any:
        logged.update(kwargs["config"])
        return init(**kwargs)

    monkeypatch.setattr(wandb, "init", remember)
    words = [*words, f"--labels.folders=[{mfcc_labels}]", "--wandb.mode=offline"]
    assert main(words) == 0
    wandb.finish()
    assert logged["optim.lr"] == 1e-3
    assert list(latest(words).glob("wandb/offline-run-*/*.wandb"))


def test_precision_does_not_change_the_scores_of_a_model(
    words: list[str], mfcc_labels: Path
) -> None:
    words = [*words, f"--labels.folders=[{mfcc_labels}]"]
    scores = []
    for precision in ("32-true", "bf16-mixed"):
        assert main([*words, f"--trainer.precision={precision}"]) == 0
        scores.append(json.loads((latest(words) / "result.json").read_text())["metrics"])
    assert scores[0]["dev/loss"] == pytest.approx(scores[1]["dev/loss"], rel=0.02)
    assert scores[0]["dev/accuracy_masked"] == pytest.approx(
        scores[1]["dev/accuracy_masked"], abs=0.05
    )


@pytest.mark.slow
@pytest.mark.data
def test_real_speech_and_noise_go_through_the_chain(words: list[str], real_speech: Path) -> None:
    words = [
        *words,
        f"--data.root={real_speech / 'libri_mini'}",
        f"--data.noise={real_speech / 'esc10_mini'}",
        "--data.check=header",
        "--data.audio_seconds_per_update=28",
        "--data.seconds_per_batch=14",
        "--labels.num_clusters=20",
        "--labels.fit_share=0.1",
    ]
    assert main(words) == 0
    result = json.loads((latest(words) / "result.json").read_text())
    assert result["counts"]["train_utterances"] == 269
    assert result["counts"]["noise_clips"] > 0
    assert result["metrics"]["dev/loss"] > 0
