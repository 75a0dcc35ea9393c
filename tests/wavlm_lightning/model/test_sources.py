# SPDX-License-Identifier: Apache-2.0
"""Where a WavLM may come from beside our own and the released files, in the forms of each time."""

import json
import warnings
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from wavlm_lightning import WavLM, load_wavlm
from wavlm_lightning.model import layout_configs, layouts
from wavlm_lightning.model.checkpoint import save_released


def write_folder(model: WavLM, folder: Path) -> None:
    """A folder as transformers reads it."""
    folder.mkdir(exist_ok=True)
    values = layout_configs.transformers_config(model.config)
    (folder / "config.json").write_text(json.dumps(values))
    save_file(layouts.to_transformers(model), folder / "model.safetensors")


def assert_same(loaded: WavLM, model: WavLM) -> None:
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_a_folder_reads_back_bit_for_bit(tmp_path: Path, model: WavLM) -> None:
    write_folder(model, tmp_path)
    assert_same(load_wavlm(tmp_path), model)


def test_names_of_the_old_weight_norm_are_read(tmp_path: Path, model: WavLM) -> None:
    write_folder(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    stem = "encoder.pos_conv_embed.conv."
    state[stem + "weight_g"] = state.pop(stem + "parametrizations.weight.original0")
    state[stem + "weight_v"] = state.pop(stem + "parametrizations.weight.original1")
    save_file(state, tmp_path / "model.safetensors")
    assert_same(load_wavlm(tmp_path), model)


def test_a_folder_with_a_torch_file_is_read(tmp_path: Path, model: WavLM) -> None:
    write_folder(model, tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert_same(load_wavlm(tmp_path), model)


def test_weights_in_several_files_are_read(tmp_path: Path, model: WavLM) -> None:
    write_folder(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(state)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: state[name] for name in own}, tmp_path / file)
    index = {"weight_map": {name: file for file, own in parts.items() for name in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same(load_wavlm(tmp_path), model)
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no two\.safetensors"):
        load_wavlm(tmp_path)


def test_the_encoder_of_a_class_with_a_head_is_read_and_the_head_named(
    tmp_path: Path, model: WavLM
) -> None:
    values = layout_configs.transformers_config(model.config)
    config = transformers.WavLMConfig(**{k: v for k, v in values.items() if k != "model_type"})
    theirs = transformers.WavLMForCTC(config)
    theirs.wavlm.load_state_dict(layouts.to_transformers(model))
    theirs.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"its head is left out: lm_head\.bias, lm_head\.weight"):
        assert_same(load_wavlm(tmp_path), model)


def test_normalisation_is_that_of_the_feature_extractor(tmp_path: Path, model: WavLM) -> None:
    write_folder(model, tmp_path)
    other = not model.config.norm_first
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": other}))
    assert load_wavlm(tmp_path).config.normalize_waveform is other
    (tmp_path / "preprocessor_config.json").unlink()
    assert load_wavlm(tmp_path).config.normalize_waveform is model.config.norm_first


def test_a_key_that_a_configuration_lacks_is_named(tmp_path: Path, model: WavLM) -> None:
    write_folder(model, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["num_buckets"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"config\.json of transformers: missing num_buckets"):
        load_wavlm(tmp_path)
    save_released(model, tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    del content["cfg"]["conv_pos"]
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="released cfg: missing conv_pos"):
        load_wavlm(tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_state_dict_of_torchaudio_is_read(
    tmp_path: Path, model: WavLM, batch, suffix: str
) -> None:
    state = {name: tensor.contiguous() for name, tensor in layouts.to_torchaudio(model).items()}
    path = tmp_path / f"a.{suffix}"
    if suffix == "pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    with pytest.warns(UserWarning, match="holds no mask embedding"):
        loaded = load_wavlm(path)
    wanted = {n: t for n, t in model.state_dict().items() if n != "mask_embedding"}
    found = {n: t for n, t in loaded.state_dict().items() if n != "mask_embedding"}
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = load_wavlm(path)
    torch.testing.assert_close(again.mask_embedding, loaded.mask_embedding, rtol=0, atol=0)
    with torch.no_grad():
        waveforms, lengths = batch(8_000, 8_000)
        torch.testing.assert_close(
            loaded.encode(waveforms, lengths).layers,
            model.encode(waveforms, lengths).layers,
            rtol=0,
            atol=0,
        )


def test_a_state_dict_of_torchaudio_that_lacks_an_entry_is_refused(
    tmp_path: Path, model: WavLM
) -> None:
    state = layouts.to_torchaudio(model)
    name = "encoder.transformer.layers.1.final_layer_norm.bias"
    torch.save({k: v for k, v in state.items() if k != name}, tmp_path / "a.pt")
    with (
        pytest.warns(UserWarning, match="mask embedding"),
        pytest.raises(ValueError, match=r"missing encoder\.layers\.1\.feed_forward_norm\.bias"),
    ):
        load_wavlm(tmp_path / "a.pt")


def test_a_hub_id_is_read_from_the_cache_and_not_fetched_unless_asked_for(
    tmp_path: Path, model: WavLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="is not on this machine; download=true fetches it"):
        load_wavlm("someone/wavlm")
    repository = tmp_path / "models--someone--wavlm"
    snapshot = repository / "snapshots" / "0123456789012345678901234567890123456789"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    write_folder(model, snapshot)
    assert_same(load_wavlm("someone/wavlm"), model)
