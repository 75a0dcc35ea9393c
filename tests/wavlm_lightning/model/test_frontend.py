# SPDX-License-Identifier: Apache-2.0
"""The convolutional front end: how many frames, how much gradient, whose statistics."""

import pytest
import torch

from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.model.frontend import FrontEnd, TimeNorm

SAMPLES = [400, 401, 719, 720, 721, 1039, 1040, 5000, 12_345, 16_000, 19_999, 20_000, 32_000]


@pytest.mark.parametrize("size", ["base", "large"])
def test_front_end_gives_the_frames_that_conv_lengths_promises(tiny, size: str) -> None:
    frontend = FrontEnd(tiny(size, frontend_dim=4))
    with torch.no_grad():
        frames = [frontend(torch.randn(1, n), None).shape[1] for n in SAMPLES]
    assert frames == [conv_lengths(n) for n in SAMPLES] == [(n - 400) // 320 + 1 for n in SAMPLES]


def test_a_frame_sees_400_samples_320_apart(tiny) -> None:
    frontend = FrontEnd(tiny("large"))
    waveforms = torch.randn(1, 2000, requires_grad=True)
    frame = frontend(waveforms, None)[0, 2].sum()
    seen = torch.autograd.grad(frame, waveforms)[0][0].nonzero().flatten()
    assert (int(seen.min()), int(seen.max())) == (2 * 320, 2 * 320 + 399)


def frontend_gradients(model, waveforms, lengths) -> list[torch.Tensor]:
    model.train()
    loss = sum(layer.square().mean() for layer in model.encode(waveforms, lengths).layers)
    return torch.autograd.grad(loss, list(model.frontend.parameters()))


@pytest.mark.parametrize("size", ["base", "large"])
def test_front_end_gradient_scales_with_the_configured_factor(
    tiny, build, batch, size: str
) -> None:
    still = {"dropout": 0.0, "attention_dropout": 0.0, "input_dropout": 0.0, "layer_drop": 0.0}
    full, tenth = (
        frontend_gradients(build(tiny(size, **still, frontend_grad_scale=s)), *batch(4000, 4000))
        for s in (1.0, 0.1)
    )
    assert min(float(g.abs().max()) for g in full) > 0
    torch.testing.assert_close(tenth, [0.1 * g for g in full])


def test_a_factor_of_zero_runs_the_front_end_without_gradient(tiny, build, batch) -> None:
    model = build(tiny("base", frontend_grad_scale=0.0)).train()
    features = model.encode(*batch(4000, 4000))
    features.layers[-1].square().mean().backward()
    assert not features.frontend.requires_grad
    assert all(p.grad is None for p in model.frontend.parameters())
    assert model.projection.weight.grad is not None


def test_time_norm_of_a_padded_row_equals_group_norm_of_the_row_alone() -> None:
    torch.manual_seed(0)
    norm, x, lengths = TimeNorm(8), torch.randn(2, 8, 50) + 1, torch.tensor([50, 20])
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    alone = torch.nn.functional.group_norm(x[1:, :, :20], 8, norm.weight, norm.bias)
    torch.testing.assert_close(norm(x, lengths)[1:, :, :20], alone)
