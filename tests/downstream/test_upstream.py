# SPDX-License-Identifier: Apache-2.0
"""Upstreams: frozen means frozen, padding and grouping change nothing, all origins load."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.downstream import upstreams
from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frozen import LARGE, Frozen
from wavlm_lightning.downstream.features.kinds import kind_names
from wavlm_lightning.downstream.features.upstream import fingerprint, kind_of, load_upstream
from wavlm_lightning.downstream.upstreams.fbank import Fbank
from wavlm_lightning.downstream.upstreams.transformers import TransformersUpstream
from wavlm_lightning.downstream.upstreams.wavlm import WavLMUpstream

LENGTHS = torch.tensor([16_000, 5_000, 9_000])


def waveforms() -> Tensor:
    x = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    return x.masked_fill(torch.arange(16_000) >= LENGTHS[:, None], 0)


def transformers_model(kind: str, norm: str) -> torch.nn.Module:
    from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

    config_class, model = {
        "hubert": (HubertConfig, HubertModel),
        "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
    }[kind]
    config = config_class(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        conv_bias=norm == "layer",
    )
    torch.manual_seed(0)
    return model(config)


def every_upstream(tiny: WavLMConfig) -> dict[str, torch.nn.Module]:
    return {
        "wavlm": WavLMUpstream(WavLM(tiny)),
        "fbank": Fbank(),
        "hubert base": TransformersUpstream(transformers_model("hubert", "group")),
        "wav2vec2 large": TransformersUpstream(transformers_model("wav2vec2", "layer")),
    }


KINDS = ("wavlm", "fbank", "hubert base", "wav2vec2 large")


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_has_the_same_features_alone_and_in_a_batch(
    tiny: WavLMConfig, kind: str
) -> None:
    upstream = every_upstream(tiny)[kind].eval()
    for model in (Frozen(upstream), Frozen(upstream, grouped=False)):
        batch = model(waveforms(), LENGTHS)
        assert len(batch.layers) == model.num_layers
        for row, length in enumerate(LENGTHS.tolist()):
            alone = model(waveforms()[row : row + 1, :length], LENGTHS[row : row + 1])
            frames = int(alone.lengths[0])
            assert frames == int(batch.lengths[row])
            for layer, own in zip(batch.layers, alone.layers, strict=True):
                assert own.shape[2] == model.dim
                torch.testing.assert_close(layer[row, :frames], own[0], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_train_mode_changes_no_feature_and_no_gradient_is_kept(
    tiny: WavLMConfig, kind: str
) -> None:
    model = Frozen(every_upstream(tiny)[kind])
    before = model(waveforms(), LENGTHS)
    after = model.train()(waveforms(), LENGTHS)
    assert not model.training
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    for a, b in zip(before.layers, after.layers, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert not a.requires_grad


def test_dropout_and_layer_drop_of_the_upstream_never_act(frozen: Frozen) -> None:
    first, second = (frozen.train()(waveforms(), LENGTHS) for _ in range(2))
    torch.testing.assert_close(first.layers[-1], second.layers[-1], rtol=0, atol=0)


def test_a_frozen_upstream_is_absent_from_state_dicts(frozen: Frozen) -> None:
    holder = torch.nn.ModuleDict({"upstream": frozen, "head": torch.nn.Linear(2, 2)})
    assert set(holder.state_dict()) == {"head.weight", "head.bias"}
    assert frozen.state_dict() == {}


def test_the_last_layer_of_a_pre_norm_model_is_after_the_final_norm() -> None:
    model = transformers_model("hubert", "layer").eval()
    upstream = Frozen(TransformersUpstream(model))
    whole = torch.tensor([16_000] * 3)
    last = upstream(waveforms(), whole).layers[-1]
    torch.testing.assert_close(last.mean(-1), torch.zeros(last.shape[:2]), rtol=0, atol=1e-5)


def test_bfloat16_changes_features_by_little(frozen: Frozen) -> None:
    rounded = Frozen(frozen.upstream, precision="bfloat16")  # type: ignore[arg-type]
    exact, close = frozen(waveforms(), LENGTHS), rounded(waveforms(), LENGTHS)
    for a, b in zip(exact.layers, close.layers, strict=True):
        assert float((a - b.float()).norm() / a.norm()) < 0.02
    assert not torch.equal(exact.layers[-1], close.layers[-1].float())


def test_an_autocast_around_a_frozen_upstream_does_not_reach_it(frozen: Frozen) -> None:
    plain = frozen(waveforms(), LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        inside = frozen(waveforms(), LENGTHS)
    torch.testing.assert_close(plain.layers[-1], inside.layers[-1], rtol=0, atol=0)


def test_fbank_dimensions_have_zero_mean_and_unit_variance() -> None:
    features = Fbank()(waveforms(), LENGTHS)
    row = features.layers[0][0, : int(features.lengths[0])]
    assert row.shape == (98, 240)
    torch.testing.assert_close(row.mean(0), torch.zeros(240), rtol=0, atol=1e-4)
    torch.testing.assert_close(row.std(0), torch.ones(240), rtol=0, atol=1e-5)


def test_fbank_may_be_left_as_it_is() -> None:
    plain, digest = load_upstream(UpstreamConfig(kind="fbank", cmvn=False))
    normal, _ = load_upstream(UpstreamConfig(kind="fbank"))
    assert digest == "none"
    x = plain(waveforms(), LENGTHS).layers[0][0, :98]
    assert float(x[:, :80].mean(0).abs().min()) > 0.1
    wanted = (x - x.mean(0)) / x.std(0)
    torch.testing.assert_close(normal(waveforms(), LENGTHS).layers[0][0, :98], wanted)


def test_fbank_of_a_single_frame_is_finite() -> None:
    features = Fbank()(torch.randn(1, 400), torch.tensor([400]))
    assert features.lengths.tolist() == [1]
    assert bool(torch.isfinite(features.layers[0]).all())


def test_features_of_both_filter_banks_are_kept_apart() -> None:
    keys = {
        fingerprint(UpstreamConfig(kind="fbank", cmvn=cmvn), "none", "cpu")
        for cmvn in (True, False)
    }
    assert len(keys) == 2


def test_a_random_upstream_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    one, _ = load_upstream(UpstreamConfig(kind="random", precision="float32"))
    torch.manual_seed(2)
    same, _ = load_upstream(UpstreamConfig(kind="random", precision="float32"))
    other, _ = load_upstream(UpstreamConfig(kind="random", seed=1, precision="float32"))
    x = [m(waveforms(), LENGTHS).layers[-1] for m in (one, same, other)]
    torch.testing.assert_close(x[0], x[1], rtol=0, atol=0)
    assert float((x[0] - x[2]).abs().max()) > 0.01


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
def test_a_folder_of_transformers_is_recognised_and_loads(tmp_path: Path, kind: str) -> None:
    model = transformers_model(kind, "group")
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    assert kind_of(tmp_path) == "transformers"
    config = UpstreamConfig(kind="transformers", source=str(tmp_path), precision="float32")
    frozen, digest = load_upstream(config)
    assert (frozen.dim, frozen.num_layers, len(digest)) == (32, 3, 64)
    layers = frozen(waveforms()[:1], LENGTHS[:1]).layers
    expected = model.eval()(waveforms()[:1], output_hidden_states=True).hidden_states
    for ours, theirs in zip(layers, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_hub_id_is_not_fetched_unless_asked_for() -> None:
    config = UpstreamConfig(kind="transformers", source="nobody/nothing-of-the-kind")
    with pytest.raises(FileNotFoundError, match=r"upstream\.download=true"):
        load_upstream(config)


def test_a_missing_checkpoint_says_what_to_set(tmp_path: Path) -> None:
    config = UpstreamConfig(kind="wavlm", source=str(tmp_path / "no.ckpt"))
    with pytest.raises(FileNotFoundError, match=r"UPSTREAM=FILE, or upstream\.source=FILE"):
        load_upstream(config)


def test_the_fingerprint_tells_apart_what_features_depend_on() -> None:
    config = UpstreamConfig(kind="random", precision="float32")
    known = {fingerprint(config, "none", "cpu")}
    for change in ({"seed": 1}, {"precision": "bfloat16"}, {"masked_group_norm": False}):
        known.add(fingerprint(dataclasses.replace(config, **change), "none", "cpu"))  # type: ignore[arg-type]
    known.add(fingerprint(config, "other", "cpu"))
    assert len(known) == 5


def test_weights_that_are_rounded_once_give_the_bits_of_autocast() -> None:
    waveforms, lengths = 0.1 * torch.randn(2, 16_000), torch.tensor([16_000, 15_000])
    config = UpstreamConfig(kind="random", size="mini", precision="bfloat16")
    frozen, _ = load_upstream(config)
    inner = frozen.upstream
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted = inner(waveforms, lengths)
    got = frozen(waveforms, lengths)
    rounded = [m for m in inner.modules() if getattr(m, "weight", None) is not None]
    assert any(m.weight.dtype == torch.bfloat16 for m in rounded)  # type: ignore[union-attr]
    assert LARGE > inner.model.encoder.layers[0].attention.gate.weight.numel()
    for a, b in zip(got.layers, wanted.layers, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_kinds_are_the_files_of_their_folder() -> None:
    assert kind_names() == [
        "fbank",
        "onnx",
        "python",
        "random",
        "torchaudio",
        "transformers",
        "wavlm",
    ]


def test_a_kind_that_is_not_there_is_refused_beside_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"must be one of fbank, onnx, .*\(got hubert\)"):
        UpstreamConfig(kind="hubert")


def test_a_file_in_that_folder_is_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spectrum.py").write_text(
        "from wavlm_lightning.downstream.features.frozen import Frozen\n"
        "from wavlm_lightning.downstream.upstreams.fbank import Fbank\n"
        "def load(config): return Frozen(Fbank(cmvn=False)), 'none'\n"
        "def depends_on(config): return 'bins 240'\n"
        "def recognizes(path): return path.suffix == '.spectrum'\n"
    )
    monkeypatch.setattr(upstreams, "__path__", [*upstreams.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wavlm_lightning.downstream.upstreams.spectrum", raising=False)
    config = UpstreamConfig(kind="spectrum")
    frozen, digest = load_upstream(config)
    assert (frozen.dim, digest) == (240, "none")
    assert "bins 240" in fingerprint(config, digest, "cpu")
    assert kind_of(tmp_path / "a.spectrum") == "spectrum"
    assert kind_of(tmp_path / "a.pt") == "wavlm"


def test_a_missing_source_names_the_key() -> None:
    for kind in ("wavlm", "transformers"):
        with pytest.raises(ValueError, match=rf"upstream\.source is not set: .*kind={kind}"):
            load_upstream(UpstreamConfig(kind=kind))
