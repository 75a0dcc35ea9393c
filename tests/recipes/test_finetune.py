# SPDX-License-Identifier: Apache-2.0
"""`make finetune TASK=ctc`: what it leaves, that it is exact, what it refuses."""

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from wavlm_lightning import WavLM, WavLMConfig, load_wavlm
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.features.frames import ConvolutionFraming
from wavlm_lightning.downstream.tasks.ctc import CTC
from wavlm_lightning.model import fairseq
from wavlm_lightning.model.checkpoint import save_released
from wavlm_lightning.model.layouts import rename
from wavlm_lightning.recipes.finetune.__main__ import main
from wavlm_lightning.recipes.finetune.settings import read_stages
from wavlm_lightning.recipes.run import fit as run_fit
from wavlm_lightning.recipes.run.processes import join
from wavlm_lightning.recipes.run.sections import TrainerSection
from wavlm_lightning.recipes.superb.sources import sources_of

ROOT = Path(__file__).parent.parent.parent
SHAPE = {"num_layers": 2, "dim": 48, "ffn_dim": 64, "num_heads": 4, "feature_encoder_dim": 16}
SHAPE |= {"position_kernel": 16, "position_groups": 4}


@pytest.fixture(params=["base"])
def encoder(request: pytest.FixtureRequest) -> WavLM:
    torch.manual_seed(1)
    return WavLM(dataclasses.replace(WavLMConfig.preset(request.param), **SHAPE)).eval()


@pytest.fixture
def words(encoder: WavLM, paths: list[str], tmp_path: Path) -> list[str]:
    save_released(encoder, tmp_path / "encoder.pt")
    return [
        "ctc",
        str(tmp_path / "encoder.pt"),
        *[word for word in paths if "librispeech" in word],
        "--protocol=mini",
        f"--run.dir={tmp_path / 'runs'}",
        f"--run.results={tmp_path / 'results'}",
        "--data.num_workers=0",
        "--data.seconds_per_batch=8",
        "--data.seconds_per_update=16",
        "--optim.total_updates=6",
        "--optim.head_updates=2",
        "--run.validate_updates=3",
        "--run.checkpoint_updates=1",
        "--trainer.precision=32-true",
        "--trainer.log_every_n_steps=1",
    ]


def latest(tmp_path: Path, runs: str = "runs", task: str = "ctc") -> Path:
    return (tmp_path / runs / "encoder+tuned" / task / "latest").resolve()


def state(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    content = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    found: dict[str, torch.Tensor] = content["state_dict"]
    return found


def test_tf32_is_set_before_anything_is_computed(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[TrainerSection] = []
    monkeypatch.setattr("wavlm_lightning.recipes.run.program.set_tf32", found.append)
    monkeypatch.setattr(
        "wavlm_lightning.recipes.run.program.start_all", lambda *_, **__: len(found)
    )
    assert main([*words, "--trainer.tf32=false"]) == 1
    assert found[0].tf32 is False


def test_it_leaves_scores_transcripts_and_an_encoder_that_loads(
    words: list[str], encoder: WavLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    folder = latest(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    assert result["task"] == "ctc"
    assert result["upstream"] == "encoder+tuned"
    assert {"dev/wer", "test/wer", "test/cer"} <= result["metrics"].keys()
    assert len(result["config"]["upstream.sha256"]) == 64
    assert json.loads((tmp_path / "results/encoder+tuned/ctc.json").read_text()) == result
    assert result["counts"]["train_texts_longer_than_frames"] >= 0
    for name in ("config.yaml", "curves.png", "predictions/test.hypothesis.trn"):
        assert (folder / name).is_file(), name
    tuned = load_wavlm(folder / "checkpoints" / "best.ckpt")
    before = encoder.state_dict()
    for name, tensor in tuned.state_dict().items():
        same = torch.equal(tensor, before[name])
        assert same == name.startswith("feature_encoder."), name
    said = capsys.readouterr().out
    assert "the first 2 updates of the head alone" in said
    assert "next: for transformers:  make export CKPT=" in said


def test_the_encoder_stands_still_while_the_head_is_trained_alone(
    words: list[str], encoder: WavLM, tmp_path: Path
) -> None:
    assert main([*words, "--optim.head_updates=6"]) == 0
    found = {n.removeprefix("model."): t for n, t in state(latest(tmp_path)).items()}
    assert found["learners.0.head.linear.weight"].abs().max() > 0
    for name, tensor in encoder.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


class StopAfter(Callback):
    def on_train_batch_end(self, trainer, *_: object) -> None:
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_was_stopped_ends_as_if_it_never_was(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*words, "--model.dropout=0.1"]
    assert main([*words, f"--run.dir={tmp_path / 'straight'}"]) == 0
    build = run_fit.build_trainer
    with monkeypatch.context() as patch:

        def stopping(*args, callbacks, **kwargs):  # type: ignore[no-untyped-def]
            return build(*args, callbacks=[StopAfter(), *callbacks], **kwargs)

        patch.setattr(run_fit, "build_trainer", stopping)
        assert main(words) == 143
    assert main(words) == 0
    wanted = state(latest(tmp_path, "straight"))
    torch.testing.assert_close(state(latest(tmp_path)), wanted, rtol=0, atol=0)


def test_an_update_is_a_mean_over_its_utterances_however_they_are_batched(
    words: list[str], tmp_path: Path
) -> None:
    plain = [*words, "--optim.total_updates=2", "--optim.head_updates=0", "--model.layer_drop=0"]
    plain += ["--model.activation_dropout=0", "--masking.time={prob: 0, length: 5, min_spans: 0}"]
    plain += ["--optim.eps=1e-3"]  # Adam's first steps would amplify rounding
    plain += ["--masking.channels={prob: 0, length: 5, min_spans: 0}"]
    (settings,) = read_stages("ctc", plain[1], plain[2:])
    where = sources_of(
        "official", settings.paths, settings.data, corpus="librispeech", processes=join()
    )
    data = TaskData(
        CTC(settings.task, where, framing=ConvolutionFraming()),
        settings.data,
        total_updates=2,
        seed=0,
    )
    batches = len(data.plan._cuts)
    assert batches > 2
    assert main([*plain, f"--data.seconds_per_update={8 * batches}"]) == 0  # all of the corpus
    many = state(latest(tmp_path))
    assert main([*plain, "--data.seconds_per_batch=1e4", "--data.seconds_per_update=1e4"]) == 0
    torch.testing.assert_close(state(latest(tmp_path)), many, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes_equal_one(words: list[str], tmp_path: Path) -> None:
    words = [*words, "--model.dropout=0.1", "--optim.eps=1e-3"]
    assert main([*words, f"--run.dir={tmp_path / 'one'}"]) == 0
    command = [
        sys.executable,
        "-m",
        "wavlm_lightning.recipes.finetune",
        *words,
        "--trainer.devices=2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 process(es)" in done.stdout
    wanted = state(latest(tmp_path, "one"))
    torch.testing.assert_close(state(latest(tmp_path)), wanted, rtol=1e-3, atol=1e-4)
    metrics = [
        json.loads((latest(tmp_path, runs) / "result.json").read_text())["metrics"]
        for runs in ("runs", "one")
    ]
    assert metrics[0] == pytest.approx(metrics[1])


@pytest.mark.parametrize("name", ["10min", "1h", "10h", "100h", "960h"])
@pytest.mark.parametrize("encoder", ["base", "large"], indirect=True)
def test_published_values_are_those_of_the_table(
    encoder: WavLM, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fairseq 3d262bb: rate, spans of frames and channels, LayerDrop, updates of the head alone."""
    wide = WavLM(dataclasses.replace(encoder.config, dim=96))  # than a span of channels
    save_released(wide, tmp_path / "encoder.pt")
    monkeypatch.chdir(ROOT)
    words = [f"--config=configs/finetune/ctc_{name}.yaml", "--paths.librispeech=/somewhere"]
    (got,) = read_stages("ctc", str(tmp_path / "encoder.pt"), words)
    assert got.upstream.name == f"encoder+ctc_{name}"
    assert got.model is not None
    large = encoder.config.norm_first
    table = {  # updates, then (Base, Large) of each
        "10min": (13_000, (5e-5, 1e-4), (0.65, 0.65), (0.25, 0.25), (0.1, 0.1), (10_000, 10_000)),
        "1h": (13_000, (5e-5, 3e-4), (0.65, 0.75), (0.25, 0.25), (0.1, 0.1), (10_000, 10_000)),
        "10h": (20_000, (5e-5, 1e-4), (0.65, 0.75), (0.5, 0.25), (0.05, 0.1), (10_000, 10_000)),
        "100h": (80_000, (3e-5, 3e-5), (0.65, 0.5), (0.5, 0.5), (0.1, 0.1), (0, 10_000)),
        "960h": (320_000, (1e-4, 3e-5), (0.5, 0.5), (0.1, 0.25), (0.1, 0.1), (0, 10_000)),
    }
    updates, *pairs = table[name]
    found = [got.optim.lr, got.masking.time.prob, got.masking.channels.prob]
    found += [got.model.layer_drop, got.optim.head_updates]
    assert found == [pair[large] for pair in pairs]
    assert got.optim.total_updates == updates
    assert got.data.seconds_per_update == (1920 if (name, large) == ("960h", True) else 1600)
    assert got.model.normalize_waveform is large


def test_test_sets_are_scored_each_by_itself(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*words, '--task.test=["test-clean", "dev-clean"]']) == 0
    metrics = json.loads((latest(tmp_path) / "result.json").read_text())["metrics"]
    assert {"test/wer", "test/wer/dev-clean"} <= metrics.keys()
    assert metrics["test/wer/dev-clean"] == pytest.approx(metrics["dev/wer"])


@pytest.mark.skipif(
    importlib.util.find_spec("flashlight") is None, reason="flashlight-text is not installed"
)
def test_a_language_model_decodes_the_test_set(words: list[str], tmp_path: Path) -> None:
    listed = ["THE", "A", "ON"]
    grams = "".join(f"-1.0\t{word}\t-0.3\n" for word in ("<unk>", "<s>", "</s>", *listed))
    text = f"\\data\\\nngram 1={len(listed) + 3}\nngram 2=1\n\n\\1-grams:\n{grams}\n"
    text += "\\2-grams:\n-0.1\tON THE\n\n\\end\\\n"
    (tmp_path / "lm.arpa").write_text(text)
    (tmp_path / "words.txt").write_text("\n".join(listed) + "\n")
    own = [f"--task.lm.file={tmp_path / 'lm.arpa'}", f"--task.lm.words={tmp_path / 'words.txt'}"]
    assert main([*words, *own, "--task.lm.beam_size=5", "--optim.total_updates=2"]) == 0
    metrics = json.loads((latest(tmp_path) / "result.json").read_text())["metrics"]
    assert {"test/wer", "test/wer_lm"} <= metrics.keys()
    lines = (latest(tmp_path) / "predictions" / "test.with_lm.trn").read_text().splitlines()
    assert {word for line in lines for word in line.rpartition(" (")[0].split()} <= set(listed)


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("--init=gone.ckpt", "init is the second word now: make finetune UPSTREAM=gone.ckpt"),
        ("--upstream.source=gone.ckpt", "no checkpoint at gone.ckpt"),
        ("--upstream.kind=fbank", "upstream.kind must be wavlm or random to train it (got fbank)"),
        ("--heads.lr=[1, 2]", "heads.lr and heads.seed train heads side by side on one frozen"),
        ("--featurizer.layer=9", "featurizer.layer must be at most 2, the encoder's last (got 9)"),
        ("--stages=[{optim.lrr: 1}]", "stages, item 1: optim.lrr is not a configuration key"),
        ("--optim.lrr=1", "optim.lrr is not a configuration key; the nearest one is optim.lr"),
        ("--masking.channels.length=64", "masking.channels.length must be at most 46, for the"),
        ("--task.train=[10h]", "paths.librilight is not set"),
        ("--task.train=[train-other-500]", "no transcripts at train-other-500"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    words: list[str], word: str, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, word]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert wanted in said[-1]
    assert main(["avs", *words[1:]]) == 1
    assert "no task avs; there are asr, asv, ctc, " in capsys.readouterr().err
    assert main(["qbe", *words[1:]]) == 1
    assert "qbe trains nothing" in capsys.readouterr().err


def test_a_hubert_of_fairseq_is_fine_tuned(
    encoder: WavLM, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fairseq.HEADS, SHAPE["dim"], SHAPE["num_heads"])
    hubert = WavLM(dataclasses.replace(encoder.config, position_bias="none"))
    weights = rename(hubert.state_dict(), "ours", "released")
    torch.save({"cfg": None, "model": weights}, tmp_path / "encoder.pt")
    assert main(words) == 0
    tuned = load_wavlm(latest(tmp_path) / "checkpoints" / "best.ckpt")
    assert tuned.config.position_bias == "none"
    name = "encoder.layers.1.feed_forward_in.weight"
    assert not torch.equal(tuned.state_dict()[name], hubert.state_dict()[name])
    name = "feature_encoder.layers.0.conv.weight"  # that rests
    assert torch.equal(tuned.state_dict()[name], hubert.state_dict()[name])
