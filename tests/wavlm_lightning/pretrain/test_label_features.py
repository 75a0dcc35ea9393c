# SPDX-License-Identifier: Apache-2.0
"""What is clustered: MFCC against torchaudio, and hidden layers of files of any length."""

import copy

import pytest
import torch
from torchaudio.compliance import kaldi

from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.pretrain.label_features import LayerFeatures, Mfcc, WavLMTeacher

CHUNK = 5  # frames
LENGTHS = [400, 719, 720, 1_679, 1_680, 1_681, 1_999, 2_000, 3_280, 3_599, 3_600, 9_999, 16_000]


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    return 0.1 * torch.randn(32_000, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def pointwise(tiny_model: WavLM) -> WavLM:
    """The model without what lets a frame see other frames behind the feature encoder."""
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.encoder.position.weight_g.zero_()
        for block in model.encoder.layers:
            block.attention.output.weight.zero_()
            block.attention.output.bias.zero_()
    return model


@pytest.mark.parametrize("num_samples", [400, 559, 560, 16_000, 31_999])
def test_mfcc_has_39_values_a_hundred_times_a_second(
    waveform: torch.Tensor, num_samples: int
) -> None:
    assert Mfcc()([waveform[:num_samples]])[0].shape == ((num_samples - 400) // 160 + 1, 39)


def test_first_cepstra_are_kaldis(waveform: torch.Tensor) -> None:
    wanted = kaldi.mfcc(waveform[None], use_energy=False)
    torch.testing.assert_close(Mfcc()([waveform])[0][:, :13], wanted)


def test_differences_are_kaldis_regression_over_five_frames(waveform: torch.Tensor) -> None:
    frames = Mfcc()([waveform])[0]
    for source, target in ((frames[:, :13], frames[:, 13:26]), (frames[:, 13:26], frames[:, 26:])):
        wanted = (source[3:-1] - source[1:-3] + 2 * (source[4:] - source[:-4])) / 10
        torch.testing.assert_close(target[2:-2], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_samples", LENGTHS)
def test_chunks_keep_the_frame_count(
    tiny_model: WavLM, waveform: torch.Tensor, num_samples: int
) -> None:
    frames = LayerFeatures(WavLMTeacher(tiny_model), 1, chunk_frames=CHUNK)(
        [waveform[:num_samples]]
    )[0]
    assert frames.shape == (conv_lengths(num_samples), 32)


@pytest.mark.parametrize("num_samples", LENGTHS)
def test_chunks_keep_the_frame_grid(
    pointwise: WavLM, waveform: torch.Tensor, num_samples: int
) -> None:
    chunked = LayerFeatures(WavLMTeacher(pointwise), 1, chunk_frames=CHUNK)(
        [waveform[:num_samples]]
    )[0]
    whole = LayerFeatures(WavLMTeacher(pointwise), 1)([waveform[:num_samples]])[0]
    torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-5)


def test_chunks_give_what_each_part_gives_alone(tiny_model: WavLM, waveform: torch.Tensor) -> None:
    chunked = LayerFeatures(WavLMTeacher(tiny_model), 1, chunk_frames=50)([waveform])[0]
    alone = LayerFeatures(WavLMTeacher(tiny_model), 1)([waveform[16_000:32_000]])[0]
    torch.testing.assert_close(chunked[50:], alone, rtol=1e-4, atol=1e-5)


def test_hidden_is_the_layers_output(tiny_model: WavLM, waveform: torch.Tensor) -> None:
    with torch.no_grad():
        wanted = tiny_model(waveform[None], torch.tensor([len(waveform)])).layers[1][0]
    torch.testing.assert_close(LayerFeatures(WavLMTeacher(tiny_model), 1)([waveform])[0], wanted)


def test_a_recording_has_the_same_frames_in_any_company(
    tiny_model: WavLM, waveform: torch.Tensor
) -> None:
    given = [waveform[:size] for size in (16_000, 31_000, 400, 30_001, 16_001, 9_999)]
    features = LayerFeatures(WavLMTeacher(tiny_model), 1, chunk_frames=60)
    together = features(given)
    assert [len(x) for x in together] == [conv_lengths(len(w)) for w in given]
    for own, x in zip(given, together, strict=True):
        torch.testing.assert_close(x, features([own])[0], rtol=1e-4, atol=1e-5)


def test_blocks_behind_the_layer_do_not_run(tiny: WavLMConfig, waveform: torch.Tensor) -> None:
    model = WavLM(tiny)
    model.encoder.layers[1].register_forward_hook(lambda *_: pytest.fail("it ran"))
    assert LayerFeatures(WavLMTeacher(model), 1)([waveform])[0].shape == (99, 32)


def test_bfloat16_gives_nearly_the_same_frames(tiny_model: WavLM, waveform: torch.Tensor) -> None:
    teacher = WavLMTeacher(tiny_model)
    exact, rounded = (LayerFeatures(teacher, 1, bfloat16=b)([waveform])[0] for b in (False, True))
    assert rounded.dtype == torch.float32
    difference = (rounded - exact).norm() / exact.norm()
    assert 1e-5 < difference < 0.02


def test_teacher_is_put_in_eval_mode(tiny_model: WavLM) -> None:
    model = copy.deepcopy(tiny_model).train()
    WavLMTeacher(model)
    assert not model.training


@pytest.mark.parametrize("layer", [0, 2])
def test_missing_layer_is_refused_with_the_key(tiny_model: WavLM, layer: int) -> None:
    with pytest.raises(ValueError, match=rf"labels\.layer={layer}: .* layers 1 to 1"):
        LayerFeatures(WavLMTeacher(tiny_model), layer)
