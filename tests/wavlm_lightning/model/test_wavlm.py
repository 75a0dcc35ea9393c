# SPDX-License-Identifier: Apache-2.0
"""The whole encoder: sizes, padding, waveform normalisation, masks, switches and refusals."""

import dataclasses

import pytest
import torch
from torch import Tensor

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.lengths import padding_mask
from wavlm_lightning.model.wavlm import normalize_waveforms

LENGTHS = (16_000, 9_000, 5_123, 400)
PARTS = {
    "base": {
        "feature_encoder": 4_200_448,
        "encoder": 89_785_712,
        "between": 395_776,
        "all": 94_381_936,
        "without gated bias": 94_371_712,
        "entries": 248,
    },
    "large": {
        "feature_encoder": 4_206_592,
        "encoder": 310_719_168,
        "between": 527_360,
        "all": 315_453_120,
        "without gated bias": 315_435_136,
        "entries": 488,
    },
}


@pytest.fixture(scope="module", params=["mini", "base", "large"])
def model(request: pytest.FixtureRequest, tiny, build) -> WavLM:
    """Mini as it is, Base and Large in small."""
    if request.param == "mini":
        return build(WavLMConfig.mini(), noise=0.05)
    return build(tiny(request.param))


def valid_frames(layers: tuple[Tensor, ...], row: int, frames: int) -> list[Tensor]:
    return [layer[row, :frames] for layer in layers]


@pytest.mark.parametrize("size", ["base", "large"])
def test_parameters_are_as_many_as_published_in_every_part(size: str) -> None:
    with torch.device("meta"):
        model = WavLM(WavLMConfig.preset(size))
    counts = {n: p.numel() for n, p in model.named_parameters()}
    feature_encoder = sum(c for n, c in counts.items() if n.startswith("feature_encoder."))
    encoder = sum(c for n, c in counts.items() if n.startswith("encoder."))
    gated = sum(c for n, c in counts.items() if ".gate" in n or ".position_bias." in n)
    total = sum(counts.values())
    assert PARTS[size] == {
        "feature_encoder": feature_encoder,
        "encoder": encoder,
        "between": total - feature_encoder - encoder,
        "all": total,
        "without gated bias": total - gated,
        "entries": len(model.state_dict()),
    }


def test_base_plus_has_the_shape_of_base() -> None:
    base, plus = WavLMConfig.base(), WavLMConfig.base_plus()
    assert dataclasses.replace(plus, size="base") == base


@torch.no_grad()
def test_an_utterance_has_the_same_features_alone_and_in_a_padded_batch(model, batch) -> None:
    waveforms, lengths = batch(*LENGTHS)
    together = model(waveforms, lengths)
    for row, samples in enumerate(LENGTHS):
        alone = model(waveforms[row : row + 1, :samples], lengths[row : row + 1])
        frames = int(alone.lengths)
        assert int(together.lengths[row]) == frames == alone.layers[0].shape[1]
        torch.testing.assert_close(
            valid_frames(together.layers, row, frames),
            valid_frames(alone.layers, 0, frames),
            atol=2e-5,
            rtol=1e-5,
        )


@torch.no_grad()
def test_more_padding_does_not_change_features(model, batch) -> None:
    waveforms, lengths = batch(*LENGTHS)
    features = model(waveforms, lengths)
    longer = model(torch.nn.functional.pad(waveforms, (0, 7000)), lengths)
    torch.testing.assert_close(longer.lengths, features.lengths)
    for row, frames in enumerate(features.lengths.tolist()):
        torch.testing.assert_close(
            valid_frames(longer.layers, row, frames),
            valid_frames(features.layers, row, frames),
            atol=2e-5,
            rtol=1e-5,
        )


@torch.no_grad()
def test_the_order_of_the_batch_does_not_change_features(model, batch) -> None:
    waveforms, lengths = batch(*LENGTHS)
    order = torch.tensor([2, 0, 3, 1])
    features, turned = model(waveforms, lengths), model(waveforms[order], lengths[order])
    torch.testing.assert_close(turned.lengths, features.lengths[order])
    for row, source in enumerate(order.tolist()):
        frames = int(turned.lengths[row])
        torch.testing.assert_close(
            valid_frames(turned.layers, row, frames),
            valid_frames(features.layers, source, frames),
            atol=2e-5,
            rtol=1e-5,
        )


@torch.no_grad()
def test_padding_changes_bf16_features_by_less_than_three_percent(model, batch) -> None:
    waveforms, lengths = batch(*LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        together = model(waveforms, lengths)
        for row, samples in enumerate(LENGTHS):
            alone = model(waveforms[row : row + 1, :samples], lengths[row : row + 1])
            frames = int(alone.lengths)
            for x, y in zip(together.layers, alone.layers, strict=True):
                error = (x[row, :frames].float() - y[0].float()).square().mean().sqrt()
                assert float(error / y.float().square().mean().sqrt()) < 0.03


@torch.no_grad()
def test_the_released_group_norm_lets_padding_change_features(tiny, build, batch) -> None:
    model = build(tiny("base", masked_group_norm=False))
    waveforms, lengths = batch(16_000, 9_000)
    together = model(waveforms, lengths)
    alone = model(waveforms[1:, :9_000], lengths[1:])
    frames = int(alone.lengths)
    change = (together.layers[0][1, :frames] - alone.layers[0][0]).abs().max()
    assert float(change) > 0.1


def test_padding_does_not_change_gradients(model, batch) -> None:
    waveforms, lengths = batch(8_000, 8_000)
    parameters = list(model.parameters())

    def gradients(waveforms: Tensor) -> tuple[Tensor | None, ...]:
        features = model(waveforms, lengths)
        valid = ~padding_mask(features.lengths, features.layers[0].shape[1])
        loss = features.layers[-1][valid].pow(3).mean()
        return torch.autograd.grad(loss, parameters, allow_unused=True)

    padded = gradients(torch.nn.functional.pad(waveforms, (0, 3000)))
    for found, expected in zip(padded, gradients(waveforms), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_large_does_not_hear_level_or_offset(tiny, build, batch) -> None:
    model = build(tiny("large"))
    waveforms, lengths = batch(8_000, 5_000)
    changed = (3 * waveforms + 0.1).masked_fill(padding_mask(lengths, 8_000), 0)
    features, again = model(waveforms, lengths), model(changed, lengths)
    for row, frames in enumerate(features.lengths.tolist()):
        torch.testing.assert_close(
            valid_frames(again.layers, row, frames),
            valid_frames(features.layers, row, frames),
            atol=1e-4,
            rtol=1e-4,
        )


@torch.no_grad()
def test_base_takes_the_waveform_as_it_is(tiny, build, batch) -> None:
    model = build(tiny("base"))
    waveforms, lengths = batch(8_000, 5_000)
    features, encoded = model(waveforms, lengths), model.encode(waveforms, lengths)
    torch.testing.assert_close(features.layers, encoded.layers, atol=0, rtol=0)


def test_normalised_waveforms_have_zero_mean_and_unit_variance_where_valid(batch) -> None:
    waveforms, lengths = batch(8_000, 5_000)
    normal = normalize_waveforms(0.3 * waveforms + 0.2, lengths)
    for row, samples in enumerate(lengths.tolist()):
        part = normal[row, :samples]
        torch.testing.assert_close(part.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
        torch.testing.assert_close(part.var(correction=0), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_normalised_waveforms_stay_zero_on_padding(batch) -> None:
    waveforms, lengths = batch(8_000, 5_000)
    normal = normalize_waveforms(waveforms + 0.2, lengths)
    torch.testing.assert_close(normal[1, 5_000:], torch.zeros(3_000), atol=0, rtol=0)


def test_a_normalised_row_is_the_layer_norm_of_its_samples(batch) -> None:
    waveforms, lengths = batch(8_000, 5_000)
    alone = torch.nn.functional.layer_norm(waveforms[1, :5_000], (5_000,))
    normal = normalize_waveforms(waveforms, lengths)[1, :5_000]
    torch.testing.assert_close(normal, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_last_layer_normed_is_the_layer_norm_of_the_last_layer(tiny, build, batch) -> None:
    normed = build(tiny("large", last_layer_normed=True))
    raw = build(tiny("large", last_layer_normed=False))
    *inner, last = normed(*batch(8_000, 5_000)).layers
    *raw_inner, raw_last = raw(*batch(8_000, 5_000)).layers
    torch.testing.assert_close(inner, raw_inner, atol=0, rtol=0)
    torch.testing.assert_close(last, raw.encoder.norm(raw_last))


@torch.no_grad()
@pytest.mark.parametrize(("block_padding", "frames"), [(True, [149, 100]), (False, [149, 99])])
def test_block_padding_counts_frames_as_released(
    tiny, build, batch, block_padding: bool, frames: list[int]
) -> None:
    model = build(tiny("large", block_padding=block_padding))
    features = model(*batch(48_000, 32_000))
    assert features.lengths.tolist() == frames
    assert features.layers[0].shape[1] == 149


@torch.no_grad()
def test_masked_frames_hold_the_mask_embedding_instead_of_their_own_content(
    tiny, build, batch
) -> None:
    model = build(tiny("large", num_layers=1, position_kernel=1, last_layer_normed=False))
    with torch.no_grad():  # no position embedding: GELU of zero
        model.encoder.position.weight_g.zero_()
        model.encoder.position.bias.zero_()
    masked = torch.zeros(1, 49, dtype=torch.bool)
    masked[0, 10:20] = True
    plain = model(*batch(16_000)).layers[0]
    hidden = model(*batch(16_000), masked).layers[0]
    torch.testing.assert_close(hidden[0, 10:20], model.mask_embedding.expand(10, -1))
    torch.testing.assert_close(hidden[~masked], plain[~masked])


@torch.no_grad()
def test_masked_channels_are_zero_where_the_encoder_begins(model, batch) -> None:
    waveforms, lengths = batch(8_000, 5_000)
    channel_mask = torch.zeros(2, model.config.dim, dtype=torch.bool)
    channel_mask[0, 3:9] = channel_mask[1, 40:] = True
    seen = []
    hook = model.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        model.encode(waveforms, lengths, channel_mask=channel_mask)
        model.encode(waveforms, lengths)
    hook.remove()
    hidden, whole = seen
    assert not hidden[0, :, 3:9].any()
    assert not hidden[1, :, 40:].any()
    torch.testing.assert_close(hidden[0, :, 9:], whole[0, :, 9:], rtol=0, atol=0)
    assert whole[0, :, 3:9].any()


def test_layers_are_one_more_than_blocks(model, batch) -> None:
    layers = model(*batch(4_000)).layers
    assert len(layers) == model.config.num_layers + 1
    assert {layer.shape for layer in layers} == {(1, 12, model.config.dim)}


def test_a_short_utterance_is_refused_by_its_row(tiny, build) -> None:
    message = r"row 1 has 399 samples; one frame needs 400"
    with pytest.raises(ValueError, match=message):
        build(tiny("base"))(torch.randn(3, 800), torch.tensor([800, 399, 500]))


@pytest.mark.parametrize(
    ("waveforms", "lengths"),
    [((800,), (1,)), ((1, 1, 800), (1,)), ((2, 800), (3,)), ((2, 800), (2, 1))],
)
def test_shapes_that_do_not_fit_are_refused(tiny, build, waveforms, lengths) -> None:
    with pytest.raises(ValueError, match=r"waveforms must be \(B, T\) and lengths \(B,\) \(got"):
        build(tiny("base"))(torch.randn(waveforms), torch.full(lengths, 800))


def test_a_length_beyond_the_waveform_is_refused(tiny, build) -> None:
    with pytest.raises(ValueError, match="a length of 801 exceeds 800 samples"):
        build(tiny("base"))(torch.randn(2, 800), torch.tensor([800, 801]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 5}, "dim=64 is not a multiple of model.num_heads=5"),
        ({"position_groups": 7}, "dim=64 is not a multiple of model.position_groups=7"),
        ({"num_buckets": 30}, "num_buckets=30 is not a multiple of 4"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(tiny, changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny("base", **changes)


def test_a_configuration_survives_plain_values(tiny) -> None:
    config = tiny("large", block_padding=True)
    assert WavLMConfig.from_dict(config.to_dict()) == config


def test_a_configuration_names_keys_that_do_not_belong_or_are_missing() -> None:
    values = {**WavLMConfig.mini().to_dict(), "colour": "red"}
    del values["ffn_dim"]
    with pytest.raises(ValueError, match=r"unknown keys \['colour'\], missing \['ffn_dim'\]"):
        WavLMConfig.from_dict(values)


def test_an_unknown_size_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="huge is not one of mini, base, base_plus, large"):
        WavLMConfig.preset("huge")
