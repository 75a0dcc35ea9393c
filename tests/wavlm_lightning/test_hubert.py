# SPDX-License-Identifier: Apache-2.0
"""Without its position bias a WavLM is a HuBERT: against transformers, in every back-end."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from wavlm_lightning import WavLM, WavLMConfig, load_wavlm
from wavlm_lightning.model.checkpoint import save_released, save_torchaudio, save_transformers
from wavlm_lightning.model.kernels import plain_operations
from wavlm_lightning.model.layouts import rename
from wavlm_lightning.model.operations import forward_operations


def plain(tiny: WavLMConfig, **changes: Any) -> WavLMConfig:
    return dataclasses.replace(tiny, position_bias="none", **changes)


@pytest.fixture
def theirs(tiny: WavLMConfig) -> Any:
    config = transformers.HubertConfig(
        hidden_size=tiny.dim,
        num_hidden_layers=tiny.num_layers,
        num_attention_heads=tiny.num_heads,
        intermediate_size=tiny.ffn_dim,
        conv_dim=[tiny.feature_encoder_dim] * 7,
        num_conv_pos_embeddings=tiny.position_kernel,
        num_conv_pos_embedding_groups=tiny.position_groups,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        feat_proj_dropout=0.0,
        activation_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
    )
    return transformers.HubertModel(config)


@pytest.mark.parametrize("attention", ["eager", "sdpa", "by_head", "chunked"])
def test_layers_and_gradients_are_those_of_transformers(
    tiny: WavLMConfig, theirs: Any, attention: str
) -> None:
    ours = WavLM(plain(tiny, attention=attention, feature_encoder_grad_scale=1.0))
    ours.load_state_dict(rename(theirs.state_dict(), "transformers", "ours"))
    x = 0.1 * torch.randn(2, 8_000)
    lengths = torch.full((2,), 8_000)
    wanted = theirs.train()(x, output_hidden_states=True).hidden_states
    found = ours.train()(x, lengths).layers
    assert len(found) == len(wanted) == tiny.num_layers + 1
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    found[-1].square().mean().backward()
    wanted[-1].square().mean().backward()
    theirs_by_name = rename(
        {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None},
        "transformers",
        "ours",
    )
    assert len(theirs_by_name) > 30
    for name, parameter in ours.named_parameters():
        if name in theirs_by_name:
            assert parameter.grad is not None
            torch.testing.assert_close(
                parameter.grad, theirs_by_name[name], rtol=1e-3, atol=1e-6, msg=name
            )


def test_padding_does_not_change_a_row(tiny: WavLMConfig) -> None:
    model = WavLM(plain(tiny)).eval()
    x = 0.1 * torch.randn(2, 8_000)
    x[1, 5_000:] = 0
    lengths = torch.tensor([8_000, 5_000])
    with torch.no_grad():
        together = model(x, lengths)
        alone = model(x[1:, :5_000], torch.tensor([5_000]))
    frames = int(alone.lengths)
    torch.testing.assert_close(
        together.layers[-1][1, :frames], alone.layers[-1][0], rtol=1e-4, atol=1e-5
    )


def test_it_has_as_many_parameters_as_hubert_base() -> None:
    with torch.device("meta"):
        model = WavLM(dataclasses.replace(WavLMConfig.base(), position_bias="none"))
        hubert = transformers.HubertModel(transformers.HubertConfig())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in hubert.parameters())


@pytest.mark.parametrize("layer_drop", [0.5, 1 - 1e-9])
def test_every_parameter_has_a_gradient_whatever_is_dropped(
    tiny: WavLMConfig, layer_drop: float
) -> None:
    model = WavLM(plain(tiny, layer_drop=layer_drop)).train()
    x, lengths = 0.1 * torch.randn(1, 8_000), torch.tensor([8_000])
    masked = torch.zeros(1, 24, dtype=torch.bool)
    masked[:, 3:9] = True
    generator = torch.Generator().manual_seed(0)
    features = model.encode(x, lengths, masked=masked, generator=generator)
    features.layers[-1].square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_it_comes_back_from_our_checkpoints_and_goes_into_no_layout_of_wavlm(
    tiny: WavLMConfig, tmp_path: Path
) -> None:
    model = WavLM(plain(tiny)).eval()
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    about = {"hyper_parameters": {"model": model.config.to_dict()}, "state_dict": state}
    torch.save(about, tmp_path / "a.ckpt")
    back = load_wavlm(tmp_path / "a.ckpt")
    assert back.config.position_bias == "none"
    torch.testing.assert_close(dict(back.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    (tmp_path / "out").mkdir()
    for save, target in (
        (save_released, tmp_path / "a.pt"),
        (save_transformers, tmp_path / "out"),
        (save_torchaudio, tmp_path / "out"),
    ):
        with pytest.raises(ValueError, match=r"position_bias=none is a HuBERT"):
            save(model, target)
    assert not (tmp_path / "a.pt").exists()


def test_plain_operations_give_the_same(tiny: WavLMConfig) -> None:
    model = WavLM(plain(tiny)).eval()
    x = 0.1 * torch.randn(1, 8_000)
    with torch.no_grad():
        wanted = model(x, torch.tensor([8_000])).layers
        with plain_operations():
            found = model(x).layers
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_it_multiplies_less(tiny: WavLMConfig) -> None:
    gated, none = (forward_operations(c, 16_000) for c in (tiny, plain(tiny)))
    assert gated - none == 2 * tiny.num_layers * 49 * 8 * tiny.dim
