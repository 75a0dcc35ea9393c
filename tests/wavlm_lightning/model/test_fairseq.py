# SPDX-License-Identifier: Apache-2.0
"""Files of fairseq's HuBERT: their arrays are read, and nothing in them is run or imported."""

import os
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from wavlm_lightning import load_wavlm
from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.upstream import load_upstream
from wavlm_lightning.model import fairseq
from wavlm_lightning.model.fairseq import read_arrays
from wavlm_lightning.model.layouts import rename


def published(size: str) -> Any:
    """A small HuBERT of transformers with norms as Base or Large has them, no first values."""
    large = size == "large"
    config = transformers.HubertConfig(
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=6,
        intermediate_size=64,
        conv_dim=[32] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer" if large else "group",
        do_stable_layer_norm=large,
    )
    torch.manual_seed(1)
    model = transformers.HubertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(params=["base", "large"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(fairseq.HEADS, 96, 6)
    return published(request.param)


def content_of(model: Any) -> dict[str, Any]:
    """What fairseq writes: the encoder, its objective, and objects of fairseq's classes."""
    state = rename(model.state_dict(), "transformers", "released")
    if model.config.feat_extract_norm == "layer":  # a norm between two transposes
        state = {n.replace(".2.weight", ".2.1.weight").replace(".2.bias", ".2.1.bias"): t
                 for n, t in state.items()}  # fmt: skip
    state |= {"final_proj.weight": torch.ones(2, 2), "label_embs_concat": torch.ones(504, 256)}
    return {"cfg": {"task": {"normalize": False}}, "model": OrderedDict(state)}


@pytest.fixture
def dictionary() -> Any:
    """An object of a class that nobody has who reads the file."""
    module = ModuleType("fairseq_of_then")

    class Dictionary:
        def __init__(self) -> None:
            self.symbols, self.count = ["<s>", "0"], torch.arange(2)

    Dictionary.__module__, Dictionary.__qualname__ = "fairseq_of_then", "Dictionary"
    module.Dictionary = Dictionary  # type: ignore[attr-defined]
    sys.modules["fairseq_of_then"] = module
    yield Dictionary()
    sys.modules.pop("fairseq_of_then", None)


def check_layers(path: Path, model: Any) -> None:
    found = load_wavlm(path)
    assert found.config.position_bias == "none"
    large = model.config.feat_extract_norm == "layer"
    assert found.config.normalize_waveform is large
    waveforms = 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.layer_norm(waveforms, (8000,)) if large else waveforms
    with torch.no_grad():
        wanted = model(x, output_hidden_states=True)
    layers = (*wanted.hidden_states[:-1], wanted.last_hidden_state)
    for ours, theirs in zip(found.extract(waveforms).layers, layers, strict=True):
        assert ours.shape == (1, 24, 96)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_layers_are_those_of_transformers(tmp_path: Path, model: Any) -> None:
    torch.save(content_of(model), tmp_path / "hubert.pt")
    check_layers(tmp_path / "hubert.pt", model)


def test_objects_of_classes_that_are_not_here_are_passed_over(
    tmp_path: Path, model: Any, dictionary: Any
) -> None:
    content = content_of(model) | {"task_state": {"dictionaries": [dictionary]}}
    torch.save(content, tmp_path / "hubert.pt")
    del sys.modules["fairseq_of_then"]
    check_layers(tmp_path / "hubert.pt", model)
    config = UpstreamConfig(kind="wavlm", source=str(tmp_path / "hubert.pt"))
    frozen, digest = load_upstream(config)
    assert (frozen.dim, frozen.num_layers, len(digest)) == (96, 3, 64)


class Mark:
    """What a hostile file would hold, here harmless: unpickling it makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_code_in_a_file_is_not_run(tmp_path: Path, model: Any) -> None:
    made = tmp_path / "made"
    torch.save(content_of(model) | {"optimizer": Mark(made)}, tmp_path / "hubert.pt")
    check_layers(tmp_path / "hubert.pt", model)
    assert not made.exists()
    torch.load(tmp_path / "hubert.pt", weights_only=False)  # the payload works
    assert made.exists()


def test_arrays_of_all_kinds_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    base = torch.arange(24.0).view(4, 6)
    content = {
        "strided": base[1:, ::2].t(),
        "half": torch.randn(3).half(),
        "bfloat16": torch.randn(3).bfloat16(),
        "long": torch.arange(5),
        "bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "plain": [1, "a", None, (2.5,)],
    }
    torch.save(content, tmp_path / "a.pt")
    found = read_arrays(tmp_path / "a.pt")
    assert found.keys() == content.keys()
    for key, value in content.items():
        if isinstance(value, Tensor):
            assert found[key].dtype == value.dtype
            assert torch.equal(found[key], value)
        else:
            assert found[key] == value


def test_an_array_beyond_its_numbers_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data[:40] if name.endswith("data/0") else data)
    with pytest.raises(ValueError, match=r"b\.pt cannot be read for its arrays"):
        read_arrays(tmp_path / "b.pt")


def test_another_width_is_refused_with_those_there_are(tmp_path: Path) -> None:
    torch.save(content_of(published("base")), tmp_path / "hubert.pt")
    with pytest.raises(ValueError, match=r"hubert\.pt.*768, 1024, 1280 \(got 96\)"):
        load_wavlm(tmp_path / "hubert.pt")


def test_weights_of_another_name_are_named(tmp_path: Path, model: Any) -> None:
    content = content_of(model)
    content["model"]["encoder.layers.0.adapter.weight"] = torch.ones(1)
    torch.save(content, tmp_path / "hubert.pt")
    with pytest.raises(ValueError, match=r"hubert\.pt.*encoder\.layers\.0\.adapter\.weight"):
        load_wavlm(tmp_path / "hubert.pt")
