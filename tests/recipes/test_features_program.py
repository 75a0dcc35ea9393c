# SPDX-License-Identifier: Apache-2.0
"""Files of features hold the layers of the model, and are gone on with as predictions are."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.audio import read_audio, write_audio
from wavlm_lightning.recipes.features import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small WavLM as our checkpoint."""
    torch.manual_seed(0)
    model = WavLM(WavLMConfig.mini())
    path = tmp_path_factory.mktemp("model") / "last.ckpt"
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": {"model": model.config.to_dict()}}, path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Recordings of three lengths, one in a folder, and what is none."""
    for name, samples in (("a.wav", 9_000), ("deep/b.wav", 9_100), ("c.flac", 40_000)):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(samples)
        write_audio(tmp_path / "in" / name, 0.1 * torch.randn(samples, generator=generator))
    (tmp_path / "in" / "broken.wav").write_bytes(b"rubbish")
    return tmp_path / "in"


def words(source: Path, out: Path, *more: str) -> list[str]:
    said = [f"--input={source}", f"--out={out}", "--device=cpu", "--upstream.precision=float32"]
    return [*said, *more]


@torch.no_grad()
@pytest.mark.parametrize("layer", ["last", "2", "mean", "all"])
def test_files_hold_the_layers_of_the_model(
    checkpoint: Path, source: Path, tmp_path: Path, layer: str
) -> None:
    out = tmp_path / "out"
    assert main([str(checkpoint), *words(source, out, f"--layer={layer}")]) == 0
    files = {path.name for path in out.glob("*.safetensors")}
    assert files == {f"{n}.safetensors" for n in ("a.wav", "deep%2Fb.wav", "c.flac")}
    model = WavLM.from_pretrained(checkpoint)
    layers = model.extract(read_audio(source / "deep/b.wav")).layers
    found = load_file(out / "deep%2Fb.wav.safetensors")
    if layer == "all":
        assert list(found) == [f"layer_{i}" for i in range(5)]
        for name, wanted in zip(found, layers, strict=True):
            torch.testing.assert_close(found[name], wanted[0], rtol=1e-4, atol=1e-5)
        return
    wanted = {"last": layers[-1], "2": layers[2], "mean": torch.stack(list(layers)).mean(0)}[layer]
    torch.testing.assert_close(found["features"], wanted[0], rtol=1e-4, atol=1e-5)
    with safe_open(out / "c.flac.safetensors", "pt") as file:
        about = file.metadata()
    assert (about["stride"], about["layer"], about["recording"]) == ("320", layer, "c.flac")


def test_it_goes_on_and_keeps_settings_apart(
    checkpoint: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = [str(checkpoint), *words(source, out)]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "4 recordings, 0 of them done before" in said
    assert "left out, unusable: 1 files" in said
    assert said.splitlines()[-1].endswith(f"for 3 recordings in {out}")
    (out / "a.wav.safetensors").unlink()
    assert main(argv) == 0
    assert "4 recordings, 2 of them done before" in capsys.readouterr().out
    assert (out / "a.wav.safetensors").is_file()
    assert main([*argv, "--layer=1"]) == 1
    assert "holds files with layer=last (this run has 1)" in capsys.readouterr().err
    assert json.loads((out / "model.json").read_text())["layer"] == "last"
    assert main([*argv, "--window_seconds=2"]) == 1
    assert "window_seconds=60.0 (this run has 2.0)" in capsys.readouterr().err


def test_another_model_in_the_same_place_is_refused(
    checkpoint: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, out = tmp_path / "last.ckpt", tmp_path / "out"
    place.write_bytes(checkpoint.read_bytes())
    argv = [str(place), *words(source, out)]
    assert main(argv) == 0
    content = torch.load(place, weights_only=True)
    content["state_dict"]["model.mask_embedding"] += 1.0
    torch.save(content, place)
    (out / "a.wav.safetensors").unlink()
    assert main(argv) == 1
    assert "holds files with sha256=" in capsys.readouterr().err
    assert not (out / "a.wav.safetensors").exists()


def test_files_that_are_not_read_are_said(
    checkpoint: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "d.m4a").write_bytes(b"of another kind")
    assert main([str(checkpoint), *words(source, tmp_path / "out")]) == 0
    assert "1 .m4a files, which are not read" in capsys.readouterr().out


def test_halves_and_windows(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([str(checkpoint), *words(source, whole, "--dtype=float16")]) == 0
    more = ["--window_seconds=1", "--context_seconds=0.5"]
    assert main([str(checkpoint), *words(source, cut, *more)]) == 0
    halves = load_file(whole / "c.flac.safetensors")["features"]
    windows = load_file(cut / "c.flac.safetensors")["features"]
    assert halves.dtype == torch.float16
    assert halves.shape == windows.shape == (124, 192)
    away = (halves.float() - windows).norm() / windows.norm()
    assert 1e-3 < float(away) < 0.5  # near, and not the same
    same = load_file(cut / "a.wav.safetensors")["features"]
    torch.testing.assert_close(
        load_file(whole / "a.wav.safetensors")["features"].float(), same, rtol=1e-2, atol=1e-2
    )


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("argv", "error"),
    [
        ([], "the first argument must be an upstream"),
        (["nothing", "--input={in}", "--out={out}"], "no upstream nothing"),
        (["fbank", "--input=/no", "--out={out}"], "input=/no: there is no such file or folder"),
        (["fbank", "--input={in}", "--out={in}/x"], "must not lie in input="),
        (["fbank", "--input={in}", "--out={out}", "--layer=7"], "layer must be from 0 to 0"),
        (["fbank", "--input={in}", "--out={out}", "--layer=x"], "layer must be"),
        (["fbank", "--input={in}", "--out={out}", "--nothing=1"], "nothing is not a configuration"),
    ],
)
def test_what_is_wrong_is_one_line(
    argv: list[str],
    error: str,
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"in": str(source), "out": str(tmp_path / "out")}
    assert main([word.format(**places) for word in argv]) == 1
    said = capsys.readouterr().err
    assert error in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
