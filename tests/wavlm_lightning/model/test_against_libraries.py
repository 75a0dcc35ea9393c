# SPDX-License-Identifier: Apache-2.0
"""The same weights in transformers' and torchaudio's WavLM give the same layers."""

import pytest
import torch
import torchaudio
import transformers
from torch import Tensor, nn

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.lengths import padding_mask
from wavlm_lightning.model import layout_configs, layouts

FULL_NOISE = 0.02  # at full width; more would make attention a maximum, and rounding visible


def in_transformers(model: WavLM) -> transformers.WavLMModel:
    values = layout_configs.transformers_config(model.config)
    config = transformers.WavLMConfig(**{k: v for k, v in values.items() if k != "model_type"})
    with torch.device("meta"):
        theirs = transformers.WavLMModel(config).eval()
    theirs.load_state_dict(layouts.to_transformers(model), strict=True, assign=True)
    return theirs


def in_torchaudio(model: WavLM) -> nn.Module:
    config = model.config
    with torch.device("meta"):
        theirs = torchaudio.models.wavlm_model(**layout_configs.torchaudio_arguments(config)).eval()
    theirs.load_state_dict(layouts.to_torchaudio(model), strict=True, assign=True)
    return theirs


def assert_same_layers(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(tuple(ours), tuple(theirs), atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def base(build) -> WavLM:
    return build(WavLMConfig.base(), noise=FULL_NOISE)


@pytest.fixture(params=["base", "large"])
def size(request: pytest.FixtureRequest) -> str:
    return request.param


@torch.no_grad()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("normed", [True, False])
def test_transformers_gives_the_same_layers(
    tiny, build, batch, size: str, normed: bool, attention: str
) -> None:
    model = build(tiny(size, attention=attention, last_layer_normed=normed))
    waveforms, lengths = batch(16_000, 16_000)
    theirs = in_transformers(model)(waveforms, output_hidden_states=True)
    assert_same_layers(model.encode(waveforms, lengths).layers, theirs.hidden_states)


@torch.no_grad()
def test_transformers_gives_the_same_layers_of_full_base(base: WavLM, batch) -> None:
    waveforms, lengths = batch(8_000)
    theirs = in_transformers(base)(waveforms, output_hidden_states=True)
    assert_same_layers(base.encode(waveforms, lengths).layers, theirs.hidden_states)


@torch.no_grad()
def test_transformers_gives_the_same_layers_of_a_padded_batch(
    tiny, build, batch, size: str
) -> None:
    # transformers' group norm counts padding as signal, as the released weights were trained.
    model = build(tiny(size, masked_group_norm=False))
    waveforms, lengths = batch(16_000, 12_345, 5_000)
    mask = ~padding_mask(lengths, 16_000)
    theirs = in_transformers(model)(
        waveforms, attention_mask=mask.long(), output_hidden_states=True
    ).hidden_states
    ours = model.encode(waveforms, lengths)
    for row, frames in enumerate(ours.lengths.tolist()):
        assert_same_layers(
            tuple(layer[row, :frames] for layer in ours.layers),
            tuple(layer[row, :frames] for layer in theirs),
        )


def test_names_survive_the_way_to_transformers_and_back(tiny, build, size: str) -> None:
    state = build(tiny(size)).state_dict()
    there = layouts.rename(state, "ours", "transformers")
    back = layouts.rename(there, "transformers", "ours")
    assert list(back) == list(state)
    torch.testing.assert_close(back, dict(state), atol=0, rtol=0)


@torch.no_grad()
def test_weights_that_transformers_drew_give_the_same_layers(tiny, build, batch, size: str) -> None:
    model = build(tiny(size))
    values = layout_configs.transformers_config(model.config)
    config = transformers.WavLMConfig(**{k: v for k, v in values.items() if k != "model_type"})
    torch.manual_seed(3)
    theirs = transformers.WavLMModel(config).eval()
    state = layouts.rename(theirs.state_dict(), "transformers", "ours")
    model.load_state_dict(state, strict=True)
    waveforms, lengths = batch(16_000, 16_000)
    hidden = theirs(waveforms, output_hidden_states=True).hidden_states
    assert_same_layers(model.encode(waveforms, lengths).layers, hidden)


@torch.no_grad()
@pytest.mark.parametrize("normed", [True, False])
def test_tie_last_hidden_states_decides_whether_transformers_norms_its_last_entry(
    tiny, build, batch, normed: bool
) -> None:
    model = build(tiny("large", last_layer_normed=normed))
    theirs = in_transformers(model)(batch(8_000)[0], output_hidden_states=True)
    assert theirs.hidden_states[-1].equal(theirs.last_hidden_state) is normed


@torch.no_grad()
@pytest.mark.parametrize("size", ["base", "large"])
def test_torchaudio_gives_the_same_layers(tiny, build, batch, size: str) -> None:
    model = build(tiny(size, last_layer_normed=False))
    waveforms, lengths = batch(16_000, 16_000)
    layers, _ = in_torchaudio(model).extract_features(waveforms)
    ours = model.encode(waveforms, lengths).layers
    torch.testing.assert_close(list(ours[1:]), layers, atol=1e-5, rtol=0)


@torch.no_grad()
def test_torchaudio_gives_the_same_normed_output(tiny, build, batch) -> None:
    model = build(tiny("large", last_layer_normed=True))
    waveforms, lengths = batch(16_000, 16_000)
    output, _ = in_torchaudio(model)(waveforms)
    ours = model.encode(waveforms, lengths).layers[-1]
    torch.testing.assert_close(ours, output, atol=1e-5, rtol=0)


@torch.no_grad()
def test_torchaudio_gives_the_same_layers_of_full_base(base: WavLM, batch) -> None:
    waveforms, lengths = batch(8_000)
    layers, _ = in_torchaudio(base).extract_features(waveforms)
    ours = base.encode(waveforms, lengths).layers
    torch.testing.assert_close(list(ours[1:]), layers, atol=1e-5, rtol=0)
