# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files: layouts there and back, refusals that name entries, no code run from a file."""

import dataclasses
import importlib
import json
import os
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import pytest
import torch
import transformers
from torch import Tensor

from wavlm_lightning import WavLM, WavLMConfig, load_wavlm
from wavlm_lightning.model import checkpoint, layout_configs, layouts

RELEASED_CODE = os.environ.get("WAVLM_RELEASED_CODE", "")
needs_released_code = pytest.mark.skipif(
    not RELEASED_CODE,
    reason="runs where WAVLM_RELEASED_CODE names a folder with WavLM.py and modules.py of "
    "microsoft/unilm's wavlm (MIT)",
)


def assert_same_weights(found: WavLM, wanted: WavLM) -> None:
    torch.testing.assert_close(found.state_dict(), wanted.state_dict(), atol=0, rtol=0)


@torch.no_grad()
def assert_same_features(found: WavLM, wanted: WavLM, batch: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(found(*batch), wanted(*batch), atol=0, rtol=0)


def test_a_released_file_reads_back_bit_for_bit(tmp_path: Path, model: WavLM, batch) -> None:
    checkpoint.save_released(model, tmp_path / "a.pt")
    loaded = load_wavlm(tmp_path / "a.pt")
    assert_same_weights(loaded, model)
    assert_same_features(loaded, model, batch(8_000, 5_000))
    assert not loaded.training


def test_a_released_file_keeps_the_configuration(tiny, size: str) -> None:
    changes = {"size": "released", "layer_drop": 0.07, "input_dropout": 0.03}
    config = dataclasses.replace(tiny(size), **changes)
    assert layout_configs.config_from_released(layout_configs.released_cfg(config)) == config


def test_a_released_cfg_without_normalize_takes_the_waveform_as_it_is(tiny) -> None:
    cfg = layout_configs.released_cfg(tiny("base"))
    del cfg["normalize"]
    assert layout_configs.config_from_released(cfg).normalize_waveform is False


@pytest.mark.parametrize(
    ("key", "value"),
    [("gru_rel_pos", False), ("relative_position_embedding", False), ("conv_bias", True)],
)
def test_a_released_network_of_another_kind_is_refused(tiny, key: str, value: bool) -> None:
    cfg = {**layout_configs.released_cfg(tiny("base")), key: value}
    with pytest.raises(ValueError, match=f"{key}={value} is not supported"):
        layout_configs.config_from_released(cfg)


@pytest.mark.parametrize("name", ["base", "large"])
def test_a_published_shape_has_its_name(name: str, tiny) -> None:
    preset = WavLMConfig.preset(name)
    cfg = layout_configs.released_cfg(preset)
    assert layout_configs.config_from_released(cfg) == preset
    values = layout_configs.transformers_config(preset)
    assert layout_configs.config_from_transformers(values) == preset
    other = layout_configs.transformers_config(tiny(name))
    assert layout_configs.config_from_transformers(other).size == "transformers"


def test_the_front_end_is_read_from_its_published_spelling(tiny) -> None:
    cfg = layout_configs.released_cfg(tiny("base"))
    width = tiny("base").feature_encoder_dim
    end = f"[({width},2,2)] * 2"
    cfg["conv_feature_layers"] = f"[({width},10,5)] + [({width},3,2)] * 4 + " + end
    assert layout_configs.config_from_released(cfg).feature_encoder_dim == width
    cfg["conv_feature_layers"] = f"[({width},10,5)] + [({width},3,2)] * 4"
    with pytest.raises(ValueError, match=r"kernels and strides \(10,5\), \(3,2\),.* are"):
        layout_configs.config_from_released(cfg)
    cfg["conv_feature_layers"] = f"[({width},10,5)] + [(9,3,2)] * 4 + " + end
    with pytest.raises(ValueError, match="layers of unequal width"):
        layout_configs.config_from_released(cfg)


def test_another_stride_in_a_folder_of_transformers_is_refused(tiny) -> None:
    values = layout_configs.transformers_config(tiny("base"))
    values["conv_stride"] = [5, 2, 2, 2, 2, 2, 1]
    with pytest.raises(ValueError, match=r"conv_stride=.* is not supported"):
        layout_configs.config_from_transformers(values)


def test_released_names_are_the_published_ones(model: WavLM, size: str) -> None:
    names = set(layouts.to_released(model))
    norm = {"base": "conv_layers.0.2.weight", "large": "conv_layers.6.2.1.weight"}[size]
    assert {
        "mask_emb",
        "layer_norm.weight",
        "post_extract_proj.bias",
        f"feature_extractor.{norm}",
        "encoder.pos_conv.0.weight_g",
        "encoder.layers.0.self_attn.relative_attention_bias.weight",
        "encoder.layers.1.self_attn.grep_linear.weight",
        "encoder.layers.1.self_attn.grep_a",
        "encoder.layers.1.fc1.bias",
        "encoder.layers.1.final_layer_norm.weight",
    } <= names
    assert "encoder.layers.1.self_attn.relative_attention_bias.weight" not in names


def test_one_of_our_checkpoints_loads(tmp_path: Path, model: WavLM, batch) -> None:
    content = {
        "state_dict": {
            **{f"model.{name}": tensor for name, tensor in model.state_dict().items()},
            "head.weight": torch.zeros(2, 2),
        },
        "hyper_parameters": {"model": model.config.to_dict()},
    }
    torch.save(content, tmp_path / "a.ckpt")
    loaded = load_wavlm(tmp_path / "a.ckpt")
    assert loaded.config == model.config
    assert_same_weights(loaded, model)


@torch.no_grad()
def test_a_folder_that_transformers_wrote_gives_the_same_features(
    tmp_path: Path, model: WavLM, batch
) -> None:
    values = layout_configs.transformers_config(model.config)
    config = transformers.WavLMConfig(**{k: v for k, v in values.items() if k != "model_type"})
    torch.manual_seed(1)
    theirs = transformers.WavLMModel(config).eval()
    theirs.save_pretrained(tmp_path)
    loaded = load_wavlm(tmp_path)
    waveforms, lengths = batch(8_000, 8_000)
    hidden = theirs(waveforms, output_hidden_states=True).hidden_states
    layers = loaded.encode(waveforms, lengths).layers
    torch.testing.assert_close(layers, hidden, atol=1e-5, rtol=1e-5)


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert"}))
    with pytest.raises(ValueError, match=r"model_type must be wavlm \(got hubert"):
        load_wavlm(tmp_path)


def released_content(model: WavLM) -> dict:
    return {"cfg": layout_configs.released_cfg(model.config), "model": layouts.to_released(model)}


def test_a_missing_entry_is_named(tmp_path: Path, model: WavLM) -> None:
    content = released_content(model)
    del content["model"]["encoder.layers.1.fc1.bias"]
    torch.save(content, tmp_path / "a.pt")
    message = r"a\.pt.*missing encoder\.layers\.1\.feed_forward_in\.bias; left over nothing"
    with pytest.raises(ValueError, match=message):
        load_wavlm(tmp_path / "a.pt")


def test_an_entry_for_a_block_too_many_is_named(tmp_path: Path, model: WavLM) -> None:
    content = released_content(model)
    content["model"]["encoder.layers.2.fc1.bias"] = torch.zeros(128)
    torch.save(content, tmp_path / "a.pt")
    message = r"missing nothing; left over encoder\.layers\.2\.feed_forward_in\.bias"
    with pytest.raises(ValueError, match=message):
        load_wavlm(tmp_path / "a.pt")


def test_an_entry_of_the_wrong_shape_is_named(tmp_path: Path, model: WavLM) -> None:
    content = released_content(model)
    content["model"]["mask_emb"] = torch.zeros(3)
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="mask_embedding"):
        load_wavlm(tmp_path / "a.pt")


@pytest.mark.parametrize("layout", ["ours", "released", "transformers"])
def test_an_entry_of_unknown_name_is_named(layout: str) -> None:
    with pytest.raises(ValueError, match=rf"{layout} layout: unknown entries final_proj\.weight"):
        layouts.rename({"final_proj.weight": torch.zeros(1)}, layout, "ours")


class Payload:
    """What a hostile file would hold, here harmless: unpickling it leaves a mark."""

    def __reduce__(self) -> tuple:
        return (os.putenv, ("WAVLM_TEST_PAYLOAD", "ran"))


@pytest.mark.parametrize("name", ["a.pt", "a.ckpt"])
def test_a_file_that_holds_code_is_refused(tmp_path: Path, name: str) -> None:
    torch.save({"cfg": Payload(), "model": {}}, tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} cannot be read: .* code in a file is never run"):
        load_wavlm(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"], ids=["no_bytes", "text"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pt cannot be read: it is (empty|no file of torch)"):
        load_wavlm(tmp_path / "a.pt")


def test_a_checkpoint_of_something_else_is_refused_with_its_keys(tmp_path: Path) -> None:
    torch.save(OrderedDict(weight=torch.zeros(1), bias=torch.zeros(1)), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="no WavLM checkpoint: it holds bias, weight"):
        load_wavlm(tmp_path / "a.pt")


def test_nothing_at_the_path_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone\.pt"):
        load_wavlm(tmp_path / "gone.pt")


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Microsoft's WavLM.py, as a module of a package made for it."""
    folder = Path(RELEASED_CODE)
    package = ModuleType("released_wavlm")
    package.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, "released_wavlm", package)
    monkeypatch.syspath_prepend(folder)  # for a copy whose imports are absolute
    return importlib.import_module("released_wavlm.WavLM")


@needs_released_code
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_the_released_class_loads_our_file_and_gives_the_same_layers(
    tmp_path: Path, released: ModuleType, tiny, build, batch, size: str
) -> None:
    model = build(tiny(size, last_layer_normed=False))
    checkpoint.save_released(model, tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    theirs = released.WavLM(released.WavLMConfig(content["cfg"])).eval()
    theirs.load_state_dict(content["model"], strict=True)
    waveforms, lengths = batch(16_000, 16_000)
    (_, pairs), _ = theirs.extract_features(
        waveforms, output_layer=model.config.num_layers, ret_layer_results=True
    )
    ours = model.encode(waveforms, lengths).layers
    hidden = tuple(layer.transpose(0, 1) for layer, _ in pairs)  # theirs are (F, B, D)
    torch.testing.assert_close(ours, hidden, atol=1e-5, rtol=1e-5)


@needs_released_code
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_the_released_class_gives_the_same_output_of_a_padded_batch(
    released: ModuleType, tiny, build, batch, size: str
) -> None:
    model = build(tiny(size, masked_group_norm=False, block_padding=True))
    theirs = released.WavLM(released.WavLMConfig(layout_configs.released_cfg(model.config))).eval()
    theirs.load_state_dict(layouts.to_released(model), strict=True)
    waveforms, lengths = batch(48_000, 32_000)
    padding = torch.arange(48_000) >= lengths[:, None]
    output, mask = theirs.extract_features(waveforms, padding_mask=padding)
    features = model.encode(waveforms, lengths)
    torch.testing.assert_close(features.lengths, (~mask).sum(1))
    for row, frames in enumerate(features.lengths.tolist()):
        ours = features.layers[-1][row, :frames]
        torch.testing.assert_close(ours, output[row, :frames], atol=1e-5, rtol=1e-5)
