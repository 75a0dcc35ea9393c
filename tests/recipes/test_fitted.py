# SPDX-License-Identifier: Apache-2.0
"""Heads that were trained here give the same numbers in transformers' classes."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
import transformers
import yaml

import wavlm_lightning.recipes.export.__main__ as export
import wavlm_lightning.recipes.finetune.__main__ as finetune
import wavlm_lightning.recipes.superb.__main__ as superb
from wavlm_lightning import WavLM, WavLMConfig, load_wavlm
from wavlm_lightning.audio import read_audio
from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.features.upstream import load_upstream
from wavlm_lightning.downstream.heads.linear import FrameLinear
from wavlm_lightning.model.checkpoint import save_released, save_transformers
from wavlm_lightning.recipes.export.trained_head import read_trained_head

SHAPE = {"num_layers": 2, "dim": 48, "ffn_dim": 64, "num_heads": 4, "feature_encoder_dim": 16}
SHAPE |= {"position_kernel": 16, "position_groups": 4}
WAVEFORMS = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
FEW_SPEAKERS = ("--task.held_out_speakers=3", "--task.min_seconds=0.5")
LENGTHS = torch.tensor([16_000, 16_000])


@pytest.fixture(params=["base", "large"])
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    model = WavLM(dataclasses.replace(WavLMConfig.preset(request.param), **SHAPE)).eval()
    save_released(model, tmp_path / "encoder.pt")
    return tmp_path / "encoder.pt"


def exported(checkpoint: Path, out: Path, to: str = "transformers") -> Path:
    words = [f"--ckpt={checkpoint}", f"--to={to}", f"--out={out}"]
    assert export.main([*words, f"--results={out.parent / 'results'}"]) == 0
    return out


def theirs(name: str, folder: Path) -> torch.nn.Module:
    """A class of transformers, which finds all that it wants and nothing else."""
    kind = getattr(transformers, name)
    model, about = kind.from_pretrained(folder, output_loading_info=True)
    assert not about["missing_keys"]
    assert not about["unexpected_keys"]
    model.eval()
    return model  # type: ignore[no-any-return]


def given(folder: Path) -> torch.Tensor:
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    return extractor(list(WAVEFORMS.numpy()), sampling_rate=16_000, return_tensors="pt")[
        "input_values"
    ]


@pytest.fixture
def ctc(encoder: Path, paths: list[str], tmp_path: Path) -> Path:
    """A checkpoint of a fine-tuning."""
    words = [
        *[word for word in paths if "librispeech" in word],
        "--protocol=mini",
        f"--run.dir={tmp_path / 'runs'}",
        f"--run.results={tmp_path / 'results'}",
        "--data.num_workers=0",
        "--optim.total_updates=4",
        "--optim.head_updates=1",
        "--run.validate_updates=2",
        "--trainer.precision=32-true",
    ]
    assert finetune.main(["ctc", str(encoder), *words]) == 0
    return (tmp_path / "runs/encoder+tuned/ctc/latest/checkpoints/best.ckpt").resolve()


@torch.no_grad()
def test_ctc_gives_the_same_logits_and_transcripts(
    ctc: Path, paths: list[str], tmp_path: Path
) -> None:
    out = exported(ctc, tmp_path / "out")
    model = theirs("WavLMForCTC", out)
    content = torch.load(ctc, weights_only=True)
    symbols = content["hyper_parameters"]["symbols"]
    head = FrameLinear(48, len(symbols)).eval()
    own = {n.removeprefix("head."): t for n, t in content["state_dict"].items() if "head." in n}
    head.load_state_dict(own)
    features = load_wavlm(ctc)(WAVEFORMS, LENGTHS)
    logits = head(Frames(features.output, features.lengths))
    torch.testing.assert_close(model(given(out)).logits, logits, rtol=1e-5, atol=1e-5)
    recognize = transformers.pipeline("automatic-speech-recognition", model=str(out))
    folder = ctc.parent.parent
    lines = (folder / "predictions" / "test.hypothesis.trn").read_text().splitlines()
    assert any(not line.startswith(" (") for line in lines)  # something is heard
    corpus = Path(next(w for w in paths if "librispeech" in w).partition("=")[2])
    for line in lines:
        text, _, name = line.rpartition(" (")
        (path,) = corpus.glob(f"test-clean/*/*/{name.rstrip(')')}.flac")
        heard = recognize(read_audio(path).numpy())["text"]
        # Ours leaves out symbols that are no text, which only a head of a few updates writes.
        assert " ".join(re.sub(r"<(s|/s|unk)>", "", heard).split()) == text.strip()


def test_the_card_of_a_fine_tuned_model_says_what_it_was_tuned_on(
    ctc: Path, tmp_path: Path
) -> None:
    card = (exported(ctc, tmp_path / "out") / "README.md").read_text()
    for text in (
        "Fine-tuned for ctc with wavlm_lightning. The licence of what it was trained from holds.",
        "| started from | encoder, sha256 ",
        "| updates | ",
        "| test/wer | ",
    ):
        assert text in card, text
    assert "license:" not in card


def run_task(task: str, encoder: Path, words: list[str], *more: str) -> Path:
    """The folder of a finished run."""
    assert superb.main([task, str(encoder), *words, "--upstream.precision=float32", *more]) == 0
    (folder,) = Path(next(w for w in words if "run.dir" in w).partition("=")[2]).glob(
        f"encoder/{task}*/latest"
    )
    return folder.resolve()


@torch.no_grad()
@pytest.mark.parametrize("layer", ["null", "1"])
def test_a_classifier_gives_the_same_logits(
    encoder: Path, probe_words: list[str], tmp_path: Path, layer: str
) -> None:
    folder = run_task("er", encoder, probe_words, f"--featurizer.layer={layer}")
    checkpoint = sorted(folder.glob("fold*/checkpoints/best.ckpt"))[0]
    out = exported(checkpoint, tmp_path / "out")
    model = theirs("WavLMForSequenceClassification", out)
    assert model.config.id2label == dict(enumerate(["neutral", "happy", "angry", "sad"]))
    own = torch.load(checkpoint, weights_only=True)["state_dict"]
    features = load_wavlm(encoder)(WAVEFORMS, LENGTHS)
    if layer == "null":
        weights = own["featurizer.logits"].softmax(0)
        x = sum(w * one for w, one in zip(weights, features.layers, strict=True))
    else:
        x = features.layers[1]
    hidden = x.mean(1) @ own["head.projection.weight"].T + own["head.projection.bias"]
    logits = hidden @ own["head.classifier.weight"].T + own["head.classifier.bias"]
    torch.testing.assert_close(model(given(out)).logits, logits, rtol=1e-5, atol=1e-5)
    card = (out / "README.md").read_text()
    assert "A head for er, trained with wavlm_lightning." in card
    assert "| encoder was frozen | encoder, sha256 " in card


@torch.no_grad()
def test_x_vectors_are_the_same(encoder: Path, probe_words: list[str], tmp_path: Path) -> None:
    from wavlm_lightning.downstream.heads.xvector import XVector

    checkpoint = run_task("asv", encoder, probe_words, *FEW_SPEAKERS) / "checkpoints" / "best.ckpt"
    out = exported(checkpoint, tmp_path / "out")
    model = theirs("WavLMForXVector", out)
    own = torch.load(checkpoint, weights_only=True)["state_dict"]
    width, classes = own["head.classes"].shape
    head = XVector(48, width=width, num_classes=classes).eval()
    head.load_state_dict({n.removeprefix("head."): t for n, t in own.items() if "head." in n})
    features = load_wavlm(encoder)(WAVEFORMS, LENGTHS)
    weights = own["featurizer.logits"].softmax(0)
    x = sum(w * one for w, one in zip(weights, features.layers, strict=True))
    wanted = head(Frames(x, features.lengths)).embedding
    found = torch.relu(model(given(out)).embeddings)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_logit_a_frame_is_the_same(tmp_path: Path) -> None:
    """Such a head on a random upstream, in the files that a run of a task leaves."""
    torch.manual_seed(0)
    head, mix = FrameLinear(192, 7).eval(), torch.randn(5)
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir(parents=True)
    state = {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    about = {"task": "frames", "head": "FrameLinear", "classes": []}
    torch.save({"state_dict": state | {"featurizer.logits": mix}, **about}, checkpoint)
    values = {
        "upstream": {"kind": "random", "size": "mini", "seed": 3, "name": "r", "sha256": "none"},
        "featurizer": {"normalize": False, "layer": None},
    }
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(values))
    out = exported(checkpoint, tmp_path / "out")
    upstream, _ = load_upstream(
        UpstreamConfig(kind="random", size="mini", seed=3, precision="float32")
    )
    features = upstream(WAVEFORMS, LENGTHS)
    x = sum(w * one for w, one in zip(mix.softmax(0), features.layers, strict=True))
    wanted = head(Frames(x, features.lengths))
    found = theirs("WavLMForAudioFrameClassification", out)(given(out)).logits
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_head_without_a_counterpart_leaves_the_encoder_alone(
    encoder: Path,
    probe_words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = run_task("sd", encoder, probe_words) / "checkpoints" / "best.ckpt"
    out = exported(checkpoint, tmp_path / "out")
    assert "has no class there: the encoder alone is written" in capsys.readouterr().out
    theirs("WavLMModel", out)
    wanted = load_wavlm(encoder).state_dict()
    torch.testing.assert_close(load_wavlm(out).state_dict(), wanted, rtol=0, atol=0)


def test_heads_are_not_put_on_another_encoder(
    encoder: Path, probe_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = run_task("asv", encoder, probe_words, *FEW_SPEAKERS) / "checkpoints" / "best.ckpt"
    other = load_wavlm(encoder)
    with torch.no_grad():
        other.projection.weight.mul_(2)
    save_released(other, encoder)
    assert export.main([f"--ckpt={checkpoint}", f"--out={tmp_path / 'out'}"]) == 1
    assert "its hash differs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_checkpoints_hold_no_head(encoder: Path, tmp_path: Path) -> None:
    assert read_trained_head(encoder) is None
    folder = tmp_path / "folder"
    folder.mkdir()
    save_transformers(load_wavlm(encoder), folder)
    assert read_trained_head(folder) is None
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["WavLMModel"]
