# SPDX-License-Identifier: Apache-2.0
"""Pre-training that starts from an encoder: what is taken, what is made anew, what is refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from wavlm_lightning import WavLM, WavLMConfig, load_wavlm
from wavlm_lightning.config_stack import Stack
from wavlm_lightning.model.checkpoint import save_released, save_torchaudio, save_transformers
from wavlm_lightning.recipes.pretrain.__main__ import main
from wavlm_lightning.recipes.run.initial_weights import config_of_init
from wavlm_lightning.recipes.superb.settings import read_probe_settings

# Not the shape in the configuration of these tests, but for its front end.
SHAPE = {"num_layers": 3, "dim": 48, "ffn_dim": 64, "num_heads": 4, "feature_encoder_dim": 16}
SHAPE |= {"position_kernel": 16, "position_groups": 4}


@pytest.fixture
def encoder() -> WavLM:
    torch.manual_seed(1)
    return WavLM(dataclasses.replace(WavLMConfig.base(), **SHAPE)).eval()


@pytest.fixture
def plain(words: list[str], tmp_path: Path) -> list[str]:
    """The words with a configuration that says nothing about the model's shape."""
    content = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    content["model"] = {"size": "mini"}
    content["run"]["name"] = "tiny"
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(content))
    return [f"--config={tmp_path / 'plain.yaml'}", *words[1:]]


def test_what_training_starts_from_may_lie_in_the_home_folder(
    encoder: WavLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_released(encoder, tmp_path / "m.pt")
    (tmp_path / "init.yaml").write_text("init: ~/m.pt\n")
    for words in (["--init=~/m.pt"], ["--config=~/init.yaml"]):
        found = config_of_init(Stack.of_overrides(words))
        assert found is not None
        assert found.dim == 48
    plain = read_probe_settings("asv", "~/m.pt", [])
    assert plain.upstream.source == str(tmp_path / "m.pt")
    assert plain.upstream.name == "m"


def state(folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    found: dict[str, torch.Tensor] = content["state_dict"]
    return {n.removeprefix(prefix): t for n, t in found.items() if n.startswith(prefix)}


def latest(words: list[str]) -> Path:
    runs = next(w.partition("=")[2] for w in words if w.startswith("--run.dir="))
    return (Path(runs) / "tiny" / "latest").resolve()


def write_transformers(model: WavLM, path: Path) -> Path:
    path.mkdir()
    save_transformers(model, path)
    return path


def write_released(model: WavLM, path: Path) -> Path:
    save_released(model, path)
    return path


def write_torchaudio(model: WavLM, path: Path) -> Path:
    path.mkdir()
    save_torchaudio(model, path)
    return path / "wavlm.pt"


@pytest.mark.filterwarnings("ignore:.*holds no mask embedding")
@pytest.mark.parametrize("write", [write_transformers, write_released, write_torchaudio])
def test_every_source_gives_its_encoder_its_shape_and_its_labels(
    plain: list[str],
    encoder: WavLM,
    tmp_path: Path,
    write: Callable[[WavLM, Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write(encoder, tmp_path / "source")
    words = [*plain, f"--init={source}", "--labels.layer=2", "--optim.lr=0"]
    assert main([*words, "--optim.total_updates=2"]) == 0
    said = capsys.readouterr().out
    assert f"starting from the encoder of {source}; it has no prediction head" in said
    assert "iteration 1 of 1" in said  # the source is the teacher
    assert state(latest(plain), "model.").keys() == encoder.state_dict().keys()
    given = load_wavlm(source).state_dict()
    torch.testing.assert_close(state(latest(plain), "model."), dict(given), rtol=0, atol=0)
    config = yaml.safe_load((latest(plain) / "config.yaml").read_text())
    assert config["model"]["dim"] == 48
    assert config["model"]["feature_encoder_grad_scale"] == 0.1
    result = json.loads((latest(plain) / "result.json").read_text())
    assert len(result["config"]["init.sha256"]) == 64


def test_the_head_alone_is_trained_first(plain: list[str], encoder: WavLM, tmp_path: Path) -> None:
    save_released(encoder, tmp_path / "a.pt")
    words = [*plain, f"--init={tmp_path / 'a.pt'}", "--optim.total_updates=4"]
    assert main([*words, "--optim.head_updates=4"]) == 0
    frozen = latest(plain)
    torch.testing.assert_close(state(frozen, "model."), dict(encoder.state_dict()), rtol=0, atol=0)
    assert main([*words, "--optim.head_updates=3"]) == 0
    moved = state(latest(plain), "model.")
    assert not torch.equal(moved["projection.weight"], encoder.state_dict()["projection.weight"])
    first, second = state(frozen, "objective."), state(latest(plain), "objective.")
    assert not torch.equal(first["projection.weight"], second["projection.weight"])


def test_a_head_is_kept_for_labels_of_its_own_codebook_and_for_no_others(
    words: list[str], mfcc_labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words, f"--labels.folders=[{mfcc_labels}]"]
    assert main(words) == 0
    source = latest(words) / "checkpoints" / "last.ckpt"
    trained = state(latest(words), "objective.")
    still = [*words, f"--init={source}", "--optim.lr=0", "--optim.total_updates=2"]
    assert main(still) == 0
    assert "starting from the encoder of" in (said := capsys.readouterr().out)
    assert "and its prediction head" in said
    torch.testing.assert_close(state(latest(words), "objective."), trained, rtol=0, atol=0)
    other = [w for w in still if "labels.folders" not in w]
    assert main(other) == 0
    assert "codebooks of its prediction head differ: a new head" in capsys.readouterr().out


def test_what_does_not_fit_is_said_before_anything_is_read(
    plain: list[str], encoder: WavLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_released(encoder, tmp_path / "a.pt")
    init = f"--init={tmp_path / 'a.pt'}"
    for word, wanted in (
        ("--model.dim=64", "model.dim=64, but init has 48: leave it out"),
        ("--labels.layer=4", "labels.layer=4: the teacher has layers 1 to 3"),
        (f"--init={tmp_path / 'gone.pt'}", "init: no checkpoint at"),
    ):
        assert main([*plain, init, word]) == 1
        assert wanted in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    (tmp_path / "junk.pt").write_bytes(b"no checkpoint")
    assert main([*plain, f"--init={tmp_path / 'junk.pt'}"]) == 1
    assert "junk.pt cannot be read: it is no file of torch" in capsys.readouterr().err
