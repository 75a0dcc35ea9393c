# SPDX-License-Identifier: Apache-2.0
"""Labels of codebooks and teachers that others made."""

import dataclasses
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
import transformers
from sklearn.cluster import MiniBatchKMeans

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.audio import read_audio
from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.model.checkpoint import save_transformers
from wavlm_lightning.pretrain.label_features import LayerFeatures, Mfcc
from wavlm_lightning.pretrain.labels import open_labels
from wavlm_lightning.pretrain.manifest import read_manifest
from wavlm_lightning.recipes.pretrain import labels
from wavlm_lightning.recipes.pretrain.label_teacher import load_teacher

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
KINDS = {
    "hubert": (transformers.HubertModel, transformers.HubertConfig, {}),
    "hubert large": (transformers.HubertModel, transformers.HubertConfig, LARGE),
    "wav2vec2": (transformers.Wav2Vec2Model, transformers.Wav2Vec2Config, {}),
}


def save(folder: Path, kind: str) -> Any:
    """A small model with random weights, written as transformers does."""
    model, config, more = KINDS[kind]
    made = model(config(**SMALL, **more)).eval()  # type: ignore[arg-type]
    made.save_pretrained(folder)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_of_transformers_gives_its_hidden_states(
    tmp_path: Path, recordings: Path, kind: str
) -> None:
    model = save(tmp_path / "teacher", kind)
    features = LayerFeatures(load_teacher(tmp_path / "teacher"), 1)
    assert (features.dim, features.rate, len(features.sha256)) == (32, 50, 64)
    waveform = read_audio(next((recordings / "speech" / "dev").iterdir()))
    given = waveform[None]
    if "large" in kind:
        given = (given - given.mean()) / (given.var(correction=0) + 1e-5).sqrt()
    with torch.no_grad():
        wanted = model(given, output_hidden_states=True).hidden_states[1][0]
    torch.testing.assert_close(features([waveform])[0], wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"labels\.layer=3: the teacher has layers 1 to 2"):
        LayerFeatures(load_teacher(tmp_path / "teacher"), 3)


def test_a_wavlm_of_transformers_is_a_wavlm(tmp_path: Path, tiny: WavLMConfig) -> None:
    model = WavLM(dataclasses.replace(tiny)).eval()
    (tmp_path / "teacher").mkdir()
    save_transformers(model, tmp_path / "teacher")
    x = 0.1 * torch.randn(8_000)
    with torch.no_grad():
        wanted = model(x[None], torch.tensor([8_000])).layers[2][0]
    torch.testing.assert_close(LayerFeatures(load_teacher(tmp_path / "teacher"), 2)([x])[0], wanted)


def test_labels_of_a_hubert_are_written(tmp_path: Path, recordings: Path) -> None:
    save(tmp_path / "teacher", "hubert")
    out, root = tmp_path / "out", recordings / "speech"
    words = [f"--root={root}", f"--out={out}", "--features=hidden", "--num_clusters=5"]
    words += [f"--teacher={tmp_path / 'teacher'}", "--layer=1", "--fit_share=1.0"]
    assert labels.main(words) == 0
    manifest = read_manifest(out / "dev.tsv")
    found = open_labels(out, "dev", manifest)
    counts = [conv_lengths(manifest[i].num_samples) for i in range(len(manifest))]
    assert np.diff(found.offsets).tolist() == counts
    assert len(set(found.codes.tolist())) > 1


@pytest.mark.bad_input
@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_a_codebook_that_is_none_leaves_no_codebook(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "q.safetensors").write_bytes(content)
    words = [f"--root={recordings / 'speech'}", f"--out={tmp_path / 'out'}", "--features=mfcc"]
    words += ["--num_clusters=5", f"--quantizer={tmp_path / 'q.safetensors'}"]
    assert labels.main(words) == 1
    assert "q.safetensors holds no codebook" in capsys.readouterr().err
    assert not (tmp_path / "out" / "quantizer.safetensors").exists()
    missing = [*words[:-1], f"--quantizer={tmp_path / 'no.bin'}"]
    assert labels.main([*missing, f"--out={tmp_path / 'other'}"]) == 1
    assert "no.bin: there is nothing" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()  # before recordings are read


def test_a_codebook_of_scikit_learn_labels_as_it_predicts(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = recordings / "speech"
    frames = Mfcc()([read_audio(path) for path in sorted((root / "dev").iterdir())])
    model = MiniBatchKMeans(6, n_init=1, random_state=0).fit(torch.cat(frames).numpy())
    joblib.dump(model, tmp_path / "km.bin")
    words = [f"--root={root}", "--features=mfcc", f"--quantizer={tmp_path / 'km.bin'}"]
    assert labels.main([*words, f"--out={tmp_path / 'out'}", "--num_clusters=6"]) == 0
    found = open_labels(tmp_path / "out", "dev", read_manifest(tmp_path / "out" / "dev.tsv"))
    for i, x in enumerate(frames):
        codes = found.codes[found.offsets[i] : found.offsets[i + 1]]
        assert np.mean(codes == model.predict(x.numpy())) > 0.99
    assert labels.main([*words, f"--out={tmp_path / 'other'}", "--num_clusters=7"]) == 1
    assert "the settings say" in capsys.readouterr().err
    model.cluster_centers_ = model.cluster_centers_[:, :20].copy()
    joblib.dump(model, tmp_path / "km.bin")
    assert labels.main([*words, f"--out={tmp_path / 'third'}", "--num_clusters=6"]) == 1
    assert "km.bin has centroids of width 20, the features have 39" in capsys.readouterr().err
