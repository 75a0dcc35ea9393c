# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime and X-ARES compute what the model does, without this package."""

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.upstream import kind_of, load_upstream
from wavlm_lightning.files import read_json
from wavlm_lightning.model import onnx as onnx_module
from wavlm_lightning.recipes.export.__main__ import main as export
from wavlm_lightning.recipes.superb import __main__ as superb

has_onnx = importlib.util.find_spec("onnxruntime") is not None
needs_onnx = pytest.mark.skipif(not has_onnx, reason="wants onnxruntime: make setup-dev")
SHAPES = ((1, 720), (1, 16_000), (2, 8_000), (3, 33_333))


@pytest.fixture(scope="module", params=["base", "large"])
def model(request: pytest.FixtureRequest) -> WavLM:
    """Of Base's kind and of Large's, which normalises waveforms and has its norms elsewhere."""
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "dim": 32, "ffn_dim": 64, "num_heads": 4, "feature_encoder_dim": 16}
    sizes |= {"position_kernel": 16, "position_groups": 4}
    return WavLM(dataclasses.replace(WavLMConfig.preset(request.param), **sizes)).eval()


@pytest.fixture(scope="module")
def checkpoint(model: WavLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It, as our checkpoint."""
    path = tmp_path_factory.mktemp("model") / "last.ckpt"
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": {"model": model.config.to_dict()}}, path)
    return path


@pytest.fixture(scope="module")
def file(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is exported for ONNX Runtime."""
    out = tmp_path_factory.mktemp("onnx") / "out"
    assert export([f"--ckpt={checkpoint}", "--to=onnx", f"--out={out}"]) == 0
    return out / "wavlm.onnx"


def waveforms_of(rows: int, samples: int) -> torch.Tensor:
    """Noise of a seed."""
    generator = torch.Generator().manual_seed(samples)
    return 0.1 * torch.randn(rows, samples, generator=generator)


@needs_onnx
@pytest.mark.slow
@torch.no_grad()
def test_onnx_runtime_gives_the_same_layers_at_any_length(file: Path, model: WavLM) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file))
    assert [o.name for o in session.get_outputs()] == ["layer_0", "layer_1", "layer_2"]
    for shape in SHAPES:
        waveforms = waveforms_of(*shape)
        found = session.run(None, {"waveforms": waveforms.numpy()})
        for layer, ours in zip(found, model(waveforms).layers, strict=True):
            difference = (torch.from_numpy(layer) - ours).abs().max() / ours.abs().max()
            assert float(difference) < 5e-6
    frozen, digest = load_upstream(UpstreamConfig(kind="onnx", source=str(file)))
    assert (frozen.dim, frozen.num_layers, len(digest)) == (32, 3, 64)
    padded = torch.nn.utils.rnn.pad_sequence([waveforms_of(1, n)[0] for n in (9_000, 5_000)], True)
    features = frozen(padded, torch.tensor([9_000, 5_000]))
    assert features.lengths.tolist() == [27, 15]
    alone = model(waveforms_of(1, 5_000)).layers[-1][0]
    torch.testing.assert_close(features.layers[-1][1, :15], alone, rtol=1e-4, atol=1e-4)


@needs_onnx
@pytest.mark.slow
def test_eight_bits_are_smaller_and_their_change_is_said(
    checkpoint: Path, model: WavLM, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if model.config.norm_first:
        pytest.skip("8 bits of one kind are enough; the other is Base's")
    out = tmp_path / "out"
    assert export([f"--ckpt={checkpoint}", "--to=onnx", f"--out={out}", "--int8=true"]) == 0
    small = out / "wavlm.onnx"
    import onnx

    operations = {node.op_type for node in onnx.load(small).graph.node}
    assert "MatMulInteger" in operations
    assert "ConvInteger" not in operations  # convolutions stay as they are
    share, said = small.stat().st_size / file.stat().st_size, capsys.readouterr().out
    assert share < 0.9  # convolutions are most of so small a model
    assert f"{share:.2f} of float32's" in said
    change = onnx_module.largest_change(model, small)
    assert 1e-4 < change < 0.1
    assert f"by at most {change:.1%} of their largest value" in said
    assert f"{change:.1%} of their largest value" in (out / "README.md").read_text()
    assert onnx_module.largest_change(model, file) < 5e-6


@needs_onnx
@pytest.mark.slow
def test_a_head_is_trained_on_the_file(file: Path, tmp_path: Path, probe_words: list[str]) -> None:
    assert superb.main(["ks", str(file), *probe_words]) == 0
    result = read_json(tmp_path / "results" / "wavlm" / "ks.json")
    assert result["config"]["upstream.kind"] == "onnx"


ELSEWHERE = """
import importlib.util, sys, torch
sys.path = [p for p in sys.path if p not in ("", {root!r})]
assert importlib.util.find_spec("wavlm_lightning") is None
spec = importlib.util.spec_from_file_location("encoder", {file!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
(name,) = [n for n in vars(module) if n.endswith("Encoder")]
encoder = getattr(module, name)()
assert isinstance(encoder, torch.nn.Module)
sounds = torch.load({sounds!r}, weights_only=True)
found = [encoder(sound) for sound in sounds]
about = [encoder.sampling_rate, encoder.output_dim, encoder.hop_size_in_ms]
torch.save([found, about], {out!r})
"""


@pytest.mark.slow
@torch.no_grad()
def test_the_class_for_xares_runs_without_us(
    checkpoint: Path, model: WavLM, tmp_path: Path
) -> None:
    layer = 1 if model.config.norm_first else None
    out, root = tmp_path / "out", str(Path(__file__).parents[2])
    words = [] if layer is None else [f"--layer={layer}"]
    assert export([f"--ckpt={checkpoint}", "--to=xares", f"--out={out}", *words]) == 0
    # As its checker does, then one row without a batch, one too short, and more than a piece.
    sounds = [waveforms_of(2, 50_000), waveforms_of(1, 16_000)[0], waveforms_of(1, 100)]
    sounds.append(waveforms_of(1, 70 * 16_000))
    torch.save(sounds, tmp_path / "sounds.pt")
    files = {"file": out / "encoder.py", "sounds": tmp_path / "sounds.pt", "out": tmp_path / "got"}
    code = ELSEWHERE.format(root=root, **{name: str(path) for name, path in files.items()})
    plain = {"PATH": "/usr/bin:/bin", "PYTHONNOUSERSITE": "1"}
    code = f"import sys; sys.path.insert(0, {str(Path(torch.__file__).parents[1])!r})\n" + code
    # -S: no .pth, which would lead to this checkout.
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, about = torch.load(tmp_path / "got", weights_only=True)
    assert about == [16_000, 32, 20]
    assert [tuple(x.shape) for x in found] == [(2, 156, 32), (1, 49, 32), (1, 2, 32), (1, 3499, 32)]
    for sound, got in zip(sounds[:2], found[:2], strict=True):
        layers = model(sound if sound.ndim == 2 else sound[None]).layers
        wanted = torch.stack(list(layers)).mean(0) if layer is None else layers[layer]
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    # With five seconds of context, where pieces meet is hardly heard; without, by 0.4 and more.
    layers = model(sounds[3]).layers
    wanted = torch.stack(list(layers)).mean(0) if layer is None else layers[layer]
    assert float(((found[3] - wanted).norm(dim=-1) / wanted.norm(dim=-1)).max()) < 0.1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--to=onnx", "--layer=1"], "layer needs TO=xares (got TO=onnx)"),
        (["--to=xares", "--int8=true"], "int8 needs TO=onnx (got TO=xares)"),
        (["--to=onnx", "--push_to_hub=a"], "push_to_hub needs TO=transformers"),
        (["--to=xares", "--layer=3"], "layer must be from 0 to 2 (got 3)"),
    ],
)
def test_words_that_do_not_fit_end_in_one_line(
    checkpoint: Path,
    tmp_path: Path,
    words: list[str],
    error: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export([f"--ckpt={checkpoint}", f"--out={tmp_path / 'out'}", *words]) == 1
    assert capsys.readouterr().err.startswith(f"error: {error}")


@pytest.mark.bad_input
def test_what_is_missing_or_broken_is_named(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(b"rubbish")
    assert kind_of(rubbish) == "onnx"
    config: Any = {"kind": "onnx", "source": str(rubbish)}
    if has_onnx:
        with pytest.raises(ValueError, match=r"rubbish\.onnx is no file that ONNX Runtime reads"):
            load_upstream(UpstreamConfig(**config))
    with pytest.raises(FileNotFoundError, match=r"upstream\.source=.*none\.onnx is no file"):
        load_upstream(UpstreamConfig(**{**config, "source": str(tmp_path / "none.onnx")}))
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert export([f"--ckpt={checkpoint}", "--to=onnx", f"--out={tmp_path / 'out'}"]) == 1
    assert "ONNX needs onnx: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
