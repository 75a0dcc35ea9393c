# SPDX-License-Identifier: Apache-2.0
"""The feature encoder: how many frames, how much gradient, whose statistics."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.model.feature_encoder import FeatureEncoder
from wavlm_lightning.model.kernels import convolution

SAMPLES = [400, 401, 719, 720, 721, 1039, 1040, 5000, 12_345, 16_000, 19_999, 20_000, 32_000]


@pytest.mark.parametrize("size", ["base", "large"])
def test_front_end_gives_the_frames_that_conv_lengths_promises(tiny, size: str) -> None:
    feature_encoder = FeatureEncoder(tiny(size, feature_encoder_dim=4))
    with torch.no_grad():
        frames = [feature_encoder(torch.randn(1, n), None).shape[1] for n in SAMPLES]
    assert frames == [conv_lengths(n) for n in SAMPLES] == [(n - 400) // 320 + 1 for n in SAMPLES]


def test_a_frame_sees_400_samples_320_apart(tiny) -> None:
    feature_encoder = FeatureEncoder(tiny("large"))
    waveforms = torch.randn(1, 2000, requires_grad=True)
    frame = feature_encoder(waveforms, None)[0, 2].sum()
    seen = torch.autograd.grad(frame, waveforms)[0][0].nonzero().flatten()
    assert (int(seen.min()), int(seen.max())) == (2 * 320, 2 * 320 + 399)


def feature_encoder_gradients(model, waveforms, lengths) -> list[torch.Tensor]:
    model.train()
    loss = sum(layer.square().mean() for layer in model.encode(waveforms, lengths).layers)
    return torch.autograd.grad(loss, list(model.feature_encoder.parameters()))


@pytest.mark.parametrize("size", ["base", "large"])
def test_front_end_gradient_scales_with_the_configured_factor(
    tiny, build, batch, size: str
) -> None:
    still = {"dropout": 0.0, "attention_dropout": 0.0, "input_dropout": 0.0, "layer_drop": 0.0}
    full, tenth = (
        feature_encoder_gradients(
            build(tiny(size, **still, feature_encoder_grad_scale=s)), *batch(4000, 4000)
        )
        for s in (1.0, 0.1)
    )
    assert min(float(g.abs().max()) for g in full) > 0
    torch.testing.assert_close(tenth, [0.1 * g for g in full])


def test_a_factor_of_zero_runs_the_front_end_without_gradient(tiny, build, batch) -> None:
    model = build(tiny("base", feature_encoder_grad_scale=0.0)).train()
    features = model.encode(*batch(4000, 4000))
    features.layers[-1].square().mean().backward()
    assert not features.conv_features.requires_grad
    assert all(p.grad is None for p in model.feature_encoder.parameters())
    assert model.projection.weight.grad is not None


@pytest.mark.parametrize("frames", [7, 10_000], ids=["many_pieces", "one_piece"])
@pytest.mark.parametrize("size", ["base", "large"])
def test_front_end_is_convolution_norm_and_gelu(
    tiny, build, size: str, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(convolution.PIECE, "cpu", frames)
    feature_encoder = build(tiny(size, feature_encoder_grad_scale=1.0)).feature_encoder
    x = (0.1 * torch.randn(2, 8013, generator=torch.Generator().manual_seed(0))).requires_grad_()
    y = x[:, None]  # (B, 1, T)
    for layer in feature_encoder.layers:
        y = F.conv1d(y, layer.conv.weight, stride=layer.conv.stride)
        if isinstance(layer.norm, nn.GroupNorm):
            y = layer.norm(y)
        elif layer.norm is not None:
            y = layer.norm(y.transpose(1, 2)).transpose(1, 2)
        y = F.gelu(y)
    expected, found = y.transpose(1, 2), feature_encoder(x, None)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    parameters = [x, *feature_encoder.parameters()]
    references = torch.autograd.grad((expected * weights).sum(), parameters)
    gradients = torch.autograd.grad((found * weights).sum(), parameters)
    for gradient, reference in zip(gradients, references, strict=True):
        scale = float(reference.abs().max())
        torch.testing.assert_close(gradient / scale, reference / scale, atol=1e-5, rtol=0)


@torch.no_grad()
def test_norm_over_time_of_a_padded_row_is_that_of_the_row_alone(tiny, build, batch) -> None:
    feature_encoder = build(tiny("base")).feature_encoder
    waveforms, lengths = batch(8000, 3000)
    alone = feature_encoder(waveforms[1:, :3000], None)
    padded = (
        feature_encoder(waveforms + 0.3, lengths),
        feature_encoder(waveforms[1:, :3000] + 0.3, None),
    )
    torch.testing.assert_close(padded[0][1:, : alone.shape[1]], padded[1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_front_end_of_silence_and_its_gradient_are_finite(tiny, build) -> None:
    feature_encoder = build(tiny("base", feature_encoder_grad_scale=1.0)).feature_encoder
    with torch.enable_grad():
        features = feature_encoder(torch.zeros(1, 4000), None)
        gradients = torch.autograd.grad(features.square().sum(), list(feature_encoder.parameters()))
    assert bool(features.isfinite().all())
    assert all(bool(g.isfinite().all()) for g in gradients)
