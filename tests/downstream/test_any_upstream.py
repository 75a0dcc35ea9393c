# SPDX-License-Identifier: Apache-2.0
"""Speech encoders of transformers and classes of a user's own: their layers, whatever the batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.features.spectrogram_encoders import WHISPER_SAMPLES, WhisperEncoder
from wavlm_lightning.downstream.features.upstream import (
    fingerprint,
    hub_kind,
    kind_of,
    load_upstream,
)
from wavlm_lightning.model.transformers_encoder import TYPES, WAVEFORM_TYPES

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
CONVOLUTIONS = {
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
LENGTHS = torch.tensor([16_000, 5_000, 9_130])


def waveforms() -> Tensor:
    x = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    return x.masked_fill(torch.arange(16_000) >= LENGTHS[:, None], 0)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[Path, Any]]:
    """A folder with a tiny random model of a type, and the model."""

    def make(kind: str, **more: Any) -> tuple[Path, Any]:
        shape: dict[str, Any] = {"whisper": WHISPER, "wav2vec2-bert": SMALL}.get(
            kind, SMALL | CONVOLUTIONS
        )
        torch.manual_seed(1)
        config = transformers.AutoConfig.for_model(kind, **shape, **more)
        model = getattr(transformers, TYPES[kind])(config).eval()
        model.save_pretrained(tmp_path)
        return tmp_path, model

    return make


def upstream(folder: Path) -> Frozen:
    config = UpstreamConfig(kind="transformers", source=str(folder), precision="float32")
    return load_upstream(config)[0]


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_loads_and_does_not_depend_on_its_batch(
    kind: str, saved: Callable[..., tuple[Path, Any]]
) -> None:
    folder, _ = saved(kind)
    assert kind_of(folder) == "transformers"
    frozen = upstream(folder)
    assert (frozen.dim, frozen.num_layers, frozen.stride) == (32, 3, 320)
    together = frozen(waveforms(), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = frozen(waveforms()[row : row + 1, :length], LENGTHS[row : row + 1])
        frames = int(alone.lengths)
        assert frames == frozen.num_frames(length) == int(together.lengths[row])
        assert alone.layers[0].shape == (1, frames, 32)
        for a, b in zip(alone.layers, together.layers, strict=True):
            torch.testing.assert_close(a[0], b[row, :frames], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", WAVEFORM_TYPES)
def test_layers_are_the_library_s_the_last_after_its_final_norm(
    kind: str, saved: Callable[..., tuple[Path, Any]]
) -> None:
    folder, model = saved(kind)
    found = upstream(folder)(waveforms()[:1], LENGTHS[:1]).layers
    x = waveforms()[:1]
    if kind == "data2vec-audio":  # layer norm in its convolutions: of zero mean and unit variance
        x = torch.nn.functional.layer_norm(x, x.shape[-1:])
    with torch.no_grad():
        wanted = model(x, output_hidden_states=True)
    layers = (*wanted.hidden_states[:-1], wanted.last_hidden_state)
    for ours, theirs in zip(found, layers, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_feature_extractor_s_file_says_whether_waveforms_are_normalised(
    saved: Callable[..., tuple[Path, Any]],
) -> None:
    folder, _ = saved("unispeech-sat")
    plain = upstream(folder)(waveforms()[:1], LENGTHS[:1]).layers[0]
    (folder / "preprocessor_config.json").write_text('{"do_normalize": true}')
    normalised = upstream(folder)(waveforms()[:1], LENGTHS[:1]).layers[0]
    x = torch.nn.functional.layer_norm(waveforms()[:1], (16_000,))
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}')
    torch.testing.assert_close(
        upstream(folder)(x, LENGTHS[:1]).layers[0], normalised, rtol=1e-4, atol=1e-5
    )
    assert float((plain - normalised).abs().max()) > 1e-4


@pytest.mark.parametrize("kind", ["wav2vec2-bert", "whisper"])
def test_spectrograms_are_those_of_the_library(
    kind: str, saved: Callable[..., tuple[Path, Any]]
) -> None:
    folder, model = saved(kind)
    extractor: Any = transformers.WhisperFeatureExtractor()
    if kind == "wav2vec2-bert":
        extractor = transformers.SeamlessM4TFeatureExtractor()
    x = extractor(waveforms()[0].numpy(), sampling_rate=16_000, return_tensors="pt")
    encoder = model.encoder if kind == "whisper" else model
    with torch.no_grad():
        wanted = encoder(**x, output_hidden_states=True)
    found = upstream(folder)(waveforms()[:1], LENGTHS[:1]).layers
    frames = found[0].shape[1]
    for ours, theirs in zip(found, wanted.hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs[:, :frames], rtol=1e-4, atol=1e-5)


def test_whisper_takes_what_is_longer_than_half_a_minute_in_parts(
    saved: Callable[..., tuple[Path, Any]],
) -> None:
    folder, _ = saved("whisper")
    frozen = upstream(folder)
    assert isinstance(frozen.upstream, WhisperEncoder)
    x = 0.1 * torch.randn(1, WHISPER_SAMPLES + 8_000)
    whole = frozen(x, torch.tensor([x.shape[1]]))
    assert int(whole.lengths) == 1_500 + 25
    rest = frozen(x[:, WHISPER_SAMPLES:], torch.tensor([8_000]))
    torch.testing.assert_close(whole.layers[2][:, 1_500:], rest.layers[2], rtol=1e-4, atol=1e-5)


def test_another_type_is_refused_beside_those_there_are(tmp_path: Path) -> None:
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is a bert: hubert, wav2vec2, .*whisper are read this"):
        load_upstream(UpstreamConfig(kind="transformers", source=str(tmp_path)))


OWN = '''
import torch
from torch import nn

class Energy(nn.Module):
    """Log energies of 10 ms in two layers, the second one scaled by a weight."""
    dim, num_layers, stride = 4, 2, 160

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), {scale}))

    def forward(self, waveforms, lengths):
        parts = waveforms.unfold(1, 160, 160).unflatten(2, (4, 40))
        x = parts.square().mean(-1).add(1e-6).log()
        return [x, self.scale * x]

class Flat:
    dim, num_layers, stride = 3, 1, 16_000

    def __call__(self, waveforms, lengths):
        return [torch.ones(len(waveforms), max(1, waveforms.shape[1] // 16_000), 5)]

class Nameless:
    dim, num_layers = 3, 1
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of a user's own."""
    path = tmp_path / "my_upstreams.py"
    path.write_text(OWN.replace("{scale}", "2.0"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "my_upstreams", raising=False)
    return path


def test_a_class_of_one_s_own_is_an_upstream(own: Path) -> None:
    config = UpstreamConfig(kind="python", source="my_upstreams:Energy", precision="float32")
    frozen, digest = load_upstream(config)
    assert (frozen.dim, frozen.num_layers, frozen.stride, len(digest)) == (4, 2, 160, 64)
    found = frozen(waveforms(), LENGTHS)
    assert found.lengths.tolist() == [100, 31, 57] == [frozen.num_frames(int(n)) for n in LENGTHS]
    torch.testing.assert_close(found.layers[1], 2 * found.layers[0])
    assert bool((found.layers[0][1, 31:] == 0).all())
    assert not any(p.requires_grad for p in frozen.parameters())


def test_its_features_are_kept_apart_from_those_of_another_version(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = UpstreamConfig(kind="python", source="my_upstreams:Energy")
    digests = [load_upstream(config)[1]]
    own.write_text(OWN.replace("{scale}", "3.0"))
    monkeypatch.delitem(__import__("sys").modules, "my_upstreams")
    __import__("importlib").invalidate_caches()
    own.with_suffix(".pyc").unlink(missing_ok=True)
    digests.append(load_upstream(config)[1])
    assert len({fingerprint(config, digest, "cpu") for digest in digests}) == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("my_upstreams:Nothing", "there is no class Nothing in my_upstreams"),
        ("no_such_module:X", "there is no module no_such_module"),
        ("my_upstreams", "must be module:Class, such as my_module:MyClass"),
        ("my_upstreams:Nameless", r"stride must be a whole number above 0 \(got None\)"),
    ],
)
def test_a_class_that_is_none_is_named(source: str, message: str, own: Path) -> None:
    with pytest.raises(ValueError, match=rf"upstream\.source.*{message}"):
        load_upstream(UpstreamConfig(kind="python", source=source))


def test_layers_of_another_shape_than_it_says_are_refused(own: Path) -> None:
    frozen, _ = load_upstream(UpstreamConfig(kind="python", source="my_upstreams:Flat"))
    with pytest.raises(
        ValueError, match=r"must return 1 layers \(B, F, 3\).*\(got \[\(1, 1, 5\)\]"
    ):
        frozen(waveforms()[:1], LENGTHS[:1])


def test_a_hub_id_that_is_not_here_has_the_kind_of_its_name() -> None:
    assert hub_kind("nobody/wavlm-base-of-nobody") == "wavlm"
    assert hub_kind("nobody/hubert-of-nobody") == "transformers"
