# SPDX-License-Identifier: Apache-2.0
"""`make export`: what is written is read by the libraries it is for, with the same features."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
import transformers

import wavlm_lightning.recipes.export.__main__ as export
from wavlm_lightning import WavLM, WavLMConfig, load_wavlm
from wavlm_lightning.model import layouts
from wavlm_lightning.model.checkpoint import save_released

WAVEFORMS = 0.1 * torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([8_000, 8_000])


@pytest.fixture(params=["base", "large"])
def model(request: pytest.FixtureRequest) -> WavLM:
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "dim": 32, "ffn_dim": 64, "num_heads": 4, "feature_encoder_dim": 16}
    sizes |= {"position_kernel": 16, "position_groups": 4}
    return WavLM(dataclasses.replace(WavLMConfig.preset(request.param), **sizes)).eval()


@pytest.fixture
def checkpoint(model: WavLM, tmp_path: Path) -> Path:
    """One of a run's, with what the run left beside it."""
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    content = {"state_dict": state, "hyper_parameters": {"model": model.config.to_dict()}}
    torch.save(content | {"global_step": 300_000, "audio_seconds": 44_424.0}, path)
    config = {
        "data.root": "/somewhere/speech",
        "labels.features": "hidden",
        "labels.layer": 6,
        "labels.num_clusters": 500,
        "optim.total_updates": 400_000,
        "iterations": [{}],
    }
    about = {
        "stage": "pretrain",
        "config": config,
        "counts": {"train_hours": 960.1},
        "metrics": {"audio_hours": 99.9},  # of the end of the run
        "commit": "0123abc",
    }
    (path.parent.parent / "result.json").write_text(json.dumps(about))
    return path


def run(checkpoint: Path, layout: str, out: Path, *words: str) -> int:
    results = f"--results={out.parent / 'results'}"
    return export.main([f"--ckpt={checkpoint}", f"--to={layout}", f"--out={out}", results, *words])


@torch.no_grad()
def test_transformers_reads_the_folder_and_gives_the_same_layers(
    checkpoint: Path, model: WavLM, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(checkpoint, "transformers", out) == 0
    theirs, about = transformers.WavLMModel.from_pretrained(out, output_loading_info=True)
    assert not about["missing_keys"]
    assert not about["unexpected_keys"]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(out)
    given = extractor(list(WAVEFORMS.numpy()), sampling_rate=16_000, return_tensors="pt")
    hidden = theirs.eval()(given["input_values"], output_hidden_states=True).hidden_states
    # The configuration that is written asks transformers for our last layer, after the final norm.
    ours = model(WAVEFORMS, LENGTHS).layers
    torch.testing.assert_close(list(hidden), list(ours), rtol=1e-5, atol=1e-5)
    back = load_wavlm(out)
    torch.testing.assert_close(back.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert back.config.normalize_waveform == model.config.normalize_waveform


@pytest.mark.parametrize(
    "name",
    [
        "WavLMForCTC",
        "WavLMForSequenceClassification",
        "WavLMForAudioFrameClassification",
        "WavLMForXVector",
    ],
)
def test_every_class_of_transformers_finds_the_encoder(
    checkpoint: Path, model: WavLM, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    assert run(checkpoint, "transformers", out) == 0
    theirs, about = getattr(transformers, name).from_pretrained(out, output_loading_info=True)
    assert not [key for key in about["missing_keys"] if key.startswith("wavlm.")]
    assert not about["unexpected_keys"]
    wanted = layouts.to_transformers(model)
    torch.testing.assert_close(dict(theirs.wavlm.state_dict()), wanted, rtol=0, atol=0)


@torch.no_grad()
def test_torchaudio_reads_the_folder_and_gives_the_same_layers(
    checkpoint: Path, model: WavLM, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(checkpoint, "torchaudio", out) == 0
    arguments = json.loads((out / "arguments.json").read_text())
    theirs = torchaudio.models.wavlm_model(**arguments).eval()
    theirs.load_state_dict(torch.load(out / "wavlm.pt", weights_only=True))
    layers, _ = theirs.extract_features(WAVEFORMS)
    # torchaudio's last layer is before the final norm too.
    as_theirs = WavLM(dataclasses.replace(model.config, last_layer_normed=False)).eval()
    as_theirs.load_state_dict(model.state_dict())
    ours = as_theirs.encode(WAVEFORMS, LENGTHS).layers
    torch.testing.assert_close(list(layers), list(ours[1:]), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_torch_runs_the_program_at_any_length(
    checkpoint: Path, model: WavLM, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(checkpoint, "torch_export", out) == 0
    program = torch.export.load(out / "wavlm.pt2").module()
    for rows, samples in ((1, 720), (2, 8_000), (3, 33_333)):
        generator = torch.Generator().manual_seed(samples)
        waveforms = 0.1 * torch.randn(rows, samples, generator=generator)
        ours = model(waveforms, torch.full((rows,), samples)).layers
        torch.testing.assert_close(program(waveforms), ours, rtol=1e-5, atol=1e-5)


def test_the_released_file_reads_back(checkpoint: Path, model: WavLM, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(checkpoint, "released", out) == 0
    back = load_wavlm(out / "WavLM.pt")
    torch.testing.assert_close(back.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_the_card_says_what_the_run_and_its_results_say(
    checkpoint: Path, tmp_path: Path, write_score: Callable[..., None]
) -> None:
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    write_score("er", "mine", 61.25, config={"upstream.sha256": digest})
    write_score("er", "other", 99.0)
    assert run(checkpoint, "transformers", tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    for text in (
        "license: apache-2.0\nlibrary_name: transformers",
        "| data | speech, 960.1 h |",
        "| audio trained on | 12.3 h |",
        "| labels | hidden, layer 6, 500 clusters, after 1 earlier iterations |",
        "| updates | 300000 of 400000 |",
        f"sha256 {digest}",
        "0123abc",
        "| er | synthetic, not comparable | test/accuracy | 61.25 |",
    ):
        assert text in card, text
    assert "99.00" not in card
    assert "/somewhere" not in card


def test_a_card_without_a_run_says_so(model: WavLM, tmp_path: Path) -> None:
    save_released(model, tmp_path / "a.pt")
    assert run(tmp_path / "a.pt", "transformers", tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "not known: no run lies beside the checkpoint" in card
    assert "No scores were found." in card
    assert "license" not in card
    assert "a checkpoint that it knows no run of. The licence of what it was trained" in card


def test_a_card_that_cannot_be_made_leaves_nothing_half_written(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any, **__: Any) -> str:
        raise ValueError("result.json is not JSON")

    monkeypatch.setattr(export, "model_card", broken)
    assert run(checkpoint, "transformers", tmp_path / "out") == 1
    assert "error: result.json is not JSON" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_broken_result_is_left_out_of_the_card_and_named(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results" / "mine").mkdir(parents=True)
    (tmp_path / "results" / "mine" / "er.json").write_text("{}")
    assert run(checkpoint, "transformers", tmp_path / "out") == 0
    assert f"left out: {tmp_path / 'results' / 'mine' / 'er.json'} is" in capsys.readouterr().err
    assert "er.json" not in (tmp_path / "out" / "README.md").read_text()


def test_what_cannot_be_done_is_said_in_a_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(checkpoint, "released", out, "--push_to_hub=me/it") == 1
    assert "push_to_hub needs TO=transformers" in capsys.readouterr().err
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    assert run(checkpoint, "released", out) == 1
    assert "is not empty" in capsys.readouterr().err
    assert run(tmp_path / "gone.ckpt", "released", tmp_path / "new") == 1
    assert "error: no checkpoint at " in capsys.readouterr().err
    assert export.main([f"--ckpt={checkpoint}", "--to=released", "--out="]) == 1
    assert "out must be a new or empty folder (got nothing). Set OUT=DIR" in capsys.readouterr().err


def test_a_folder_is_uploaded_where_somebody_is_logged_in(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalTokenNotFoundError

    done: list[Any] = []

    class Address(str):
        repo_id = "me/it"

    class Api:
        def whoami(self) -> None:
            if not logged_in:
                raise LocalTokenNotFoundError("no token")

        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> Address:
            assert exist_ok
            done.append((name, private))
            return Address(f"hub/{name}")

        def upload_folder(self, *, repo_id: str, folder_path: Path) -> None:
            done.append(sorted(path.name for path in folder_path.iterdir()))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    logged_in = False
    assert run(checkpoint, "transformers", tmp_path / "a", "--push_to_hub=me/it") == 1
    assert "nobody is logged in here: hf auth login" in capsys.readouterr().err
    logged_in = True
    assert run(checkpoint, "transformers", tmp_path / "b", "--push_to_hub=me/it") == 0
    assert "pushed: hub/me/it" in capsys.readouterr().out
    files = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
    assert done == [("me/it", False), files]
