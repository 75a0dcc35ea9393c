# SPDX-License-Identifier: Apache-2.0
"""Full Base and Large through the files of every layout and back, and what comes out there."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchaudio
import transformers
from torch import Tensor

from wavlm_lightning import WavLM, WavLMConfig, load_wavlm
from wavlm_lightning.checkpoint_file import read_checkpoint
from wavlm_lightning.model.checkpoint import save_released, save_torchaudio, save_transformers
from wavlm_lightning.model.layout_configs import torchaudio_arguments

NOISE = {"base": 0.02, "large": 0.005}  # at full width; more would make attention a maximum
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=["base", "large"])
def full(request: pytest.FixtureRequest, build: Callable[..., WavLM]) -> WavLM:
    return build(WavLMConfig.preset(request.param), noise=NOISE[request.param])


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def difference(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    """The largest, over the largest value of its layer where that is above one.

    States of Large are sums over its blocks, of up to eleven: float32 rounds them to 1e-6.
    """
    return max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1))
        for a, b in zip(ours, theirs, strict=True)
    )


def report(full: WavLM, what: str, value: object) -> None:
    """For the eye, with pytest -s; the assertions are beside it."""
    print(f"\n{full.config.size:<6} {what:<50} {value}")


@torch.no_grad()
def test_transformers_and_back(full: WavLM, batch: Callable[..., tuple[Tensor, Tensor]], tmp_path):
    save_transformers(full, tmp_path)
    assert_same(load_wavlm(tmp_path).state_dict(), full.state_dict())
    report(full, "ours -> transformers -> ours, weights", "bit-identical")
    theirs = transformers.WavLMModel.from_pretrained(tmp_path).eval()
    waveforms, lengths = batch(16_000, 16_000)
    ours = full.encode(waveforms, lengths).layers
    worst = difference(ours, theirs(waveforms, output_hidden_states=True).hidden_states)
    report(full, "all hidden states, un-padded, largest difference", f"{worst:.1e}")
    assert worst < TOLERANCE


@torch.no_grad()
def test_padded_batches_equal_those_of_transformers(
    full: WavLM, build: Callable[..., WavLM], batch: Callable[..., tuple[Tensor, Tensor]], tmp_path
):
    """Base in the plain group-norm mode, in which padding matters there as here."""
    plain = WavLM(full.config).eval()
    plain.load_state_dict(full.state_dict())
    plain.feature_encoder.masked = False
    save_transformers(plain, tmp_path)
    theirs = transformers.WavLMModel.from_pretrained(tmp_path).eval()
    waveforms, lengths = batch(16_000, 11_000)
    mask = (torch.arange(16_000) < lengths[:, None]).long()
    found = theirs(waveforms, attention_mask=mask, output_hidden_states=True).hidden_states
    features = plain.encode(waveforms, lengths)
    valid = [torch.arange(49)[: int(n)] for n in features.lengths]
    worst = max(
        difference(
            tuple(x[row, where] for x in features.layers), tuple(x[row, where] for x in found)
        )
        for row, where in enumerate(valid)
    )
    report(full, "all hidden states, padded, largest difference", f"{worst:.1e}")
    assert worst < TOLERANCE


def test_the_released_layout_and_back(full: WavLM, tmp_path: Path) -> None:
    save_released(full, tmp_path / "first.pt")
    save_released(load_wavlm(tmp_path / "first.pt"), tmp_path / "second.pt")
    first, second = (read_checkpoint(tmp_path / f"{name}.pt") for name in ("first", "second"))
    assert first["cfg"] == second["cfg"]
    assert_same(second["model"], first["model"])
    report(full, "released -> ours -> released, weights and cfg", "bit-identical")


@torch.no_grad()
def test_torchaudio_and_back(
    full: WavLM, batch: Callable[..., tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    save_torchaudio(full, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has no mask embedding
        back = load_wavlm(tmp_path / "wavlm.pt").state_dict()
    wanted = full.state_dict()
    assert_same({**back, "mask_embedding": wanted["mask_embedding"]}, dict(wanted))
    report(full, "ours -> torchaudio -> ours, but the mask embedding", "bit-identical")
    theirs = torchaudio.models.wavlm_model(**torchaudio_arguments(full.config)).eval()
    theirs.load_state_dict(torch.load(tmp_path / "wavlm.pt", weights_only=True))
    waveforms, lengths = batch(16_000, 16_000)
    layers, _ = theirs.extract_features(waveforms)
    ours = list(full.encode(waveforms, lengths).layers[1:])
    if full.config.norm_first:  # torchaudio's last layer is before the final norm
        ours, layers = ours[:-1], layers[:-1]
    worst = difference(tuple(ours), tuple(layers))
    report(full, "its layers, un-padded, largest difference", f"{worst:.1e}")
    assert worst < TOLERANCE
