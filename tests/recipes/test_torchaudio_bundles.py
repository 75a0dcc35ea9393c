# SPDX-License-Identifier: Apache-2.0
"""Bundles of torchaudio give the layers that transformers gives for the same weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torchaudio import pipelines
from torchaudio.models.wav2vec2.utils import import_huggingface_model

from wavlm_lightning.config import ConfigError
from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.features.upstream import load_upstream
from wavlm_lightning.recipes.superb.__main__ import main as superb
from wavlm_lightning.recipes.superb.settings import read_probe_settings

BUNDLES = {"base": "HUBERT_BASE", "large": "WAV2VEC2_LARGE_LV60K"}
LENGTHS = torch.tensor([16_000, 5_000, 9_130])


def model_of(size: str) -> Any:
    """A small HuBERT or wav2vec 2.0, with norms as Base has them or as Large."""
    large = size == "large"
    kind: Any = transformers.Wav2Vec2Config if large else transformers.HubertConfig
    config = kind(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer" if large else "group",
        conv_bias=large,
        do_stable_layer_norm=large,
    )
    torch.manual_seed(1)
    cls: Any = transformers.Wav2Vec2Model if large else transformers.HubertModel
    model = cls(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(params=["base", "large"])
def bundled(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Any]:
    """A bundle whose file is on this machine, and the model of transformers with its weights."""
    name, model = BUNDLES[request.param], model_of(request.param)
    bundle = getattr(pipelines, name)
    shape = {
        "extractor_conv_layer_config": [(16, k, s) for _, k, s in SHAPE],
        "encoder_embed_dim": 32,
        "encoder_num_layers": 2,
        "encoder_num_heads": 4,
        "encoder_ff_interm_features": 64,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4,
    }
    small = replace(bundle, _path=f"{name}-small.pth", _params=bundle._params | shape)
    monkeypatch.setattr(pipelines, name, small)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    weights = import_huggingface_model(model).state_dict()
    torch.save(weights, tmp_path / "hub" / "checkpoints" / f"{name}-small.pth")
    return name, model


SHAPE = [(512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2]


def waveforms() -> Tensor:
    x = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    return x.masked_fill(torch.arange(16_000) >= LENGTHS[:, None], 0)


def upstream(name: str) -> tuple[Frozen, str]:
    config = UpstreamConfig(kind="torchaudio", source=name, precision="float32")
    return load_upstream(config)


def test_layers_are_those_of_transformers(bundled: tuple[str, Any]) -> None:
    name, model = bundled
    frozen, digest = upstream(name)
    assert (frozen.dim, frozen.num_layers, frozen.stride) == (32, 3, 320)
    assert len(digest) == 64
    x = waveforms()[:1]
    if name.endswith("LV60K"):
        x = torch.nn.functional.layer_norm(x, x.shape[-1:])
    with torch.no_grad():
        wanted = model(x, output_hidden_states=True)
    layers = (*wanted.hidden_states[:-1], wanted.last_hidden_state)
    found = frozen(waveforms()[:1], LENGTHS[:1]).layers
    for ours, theirs in zip(found, layers, strict=True):
        assert ours.shape == (1, 49, 32)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_layers_do_not_depend_on_the_batch(bundled: tuple[str, Any]) -> None:
    frozen, _ = upstream(bundled[0])
    together = frozen(waveforms(), LENGTHS)
    equal = frozen(waveforms()[:2, :5000] * torch.tensor([[1.0], [3.0]]), torch.tensor([5000] * 2))
    for row, length in enumerate(LENGTHS.tolist()):
        alone = frozen(waveforms()[row : row + 1, :length], LENGTHS[row : row + 1])
        frames = int(alone.lengths)
        assert frames == frozen.num_frames(length) == int(together.lengths[row])
        for a, b in zip(alone.layers, together.layers, strict=True):
            torch.testing.assert_close(a[0], b[row, :frames], rtol=1e-4, atol=1e-5)
    second = frozen(3 * waveforms()[1:2, :5000], torch.tensor([5000]))
    torch.testing.assert_close(equal.layers[-1][1], second.layers[-1][0], rtol=1e-4, atol=1e-5)


def test_the_hash_is_of_the_weights(bundled: tuple[str, Any], tmp_path: Path) -> None:
    _, first = upstream(bundled[0])
    (file,) = (tmp_path / "hub" / "checkpoints").iterdir()
    weights = torch.load(file)
    weights["encoder.transformer.layer_norm.bias"] += 1
    torch.save(weights, file)
    assert upstream(bundled[0])[1] != first


def test_a_file_that_was_cut_off_is_named(bundled: tuple[str, Any], tmp_path: Path) -> None:
    (file,) = (tmp_path / "hub" / "checkpoints").iterdir()
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=rf"{bundled[0]}-small\.pth cannot be read: it is cut off"):
        upstream(bundled[0])


def test_a_bundle_is_not_fetched_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"HUBERT_LARGE.*upstream\.download=true"):
        upstream("HUBERT_LARGE")


def test_a_bundle_that_there_is_not_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"got HUBERT_SMALL.*HUBERT_BASE"):
        upstream("HUBERT_SMALL")
    with pytest.raises(ConfigError, match="torchaudio:NAME"):
        read_probe_settings("ks", "torchaudio:", [])


def test_a_bundle_is_judged_by_its_name(
    bundled: tuple[str, Any], probe_words: list[str], tmp_path: Path
) -> None:
    assert superb(["ks", f"torchaudio:{bundled[0]}", *probe_words]) == 0
    assert (tmp_path / "results" / bundled[0] / "ks.json").is_file()
