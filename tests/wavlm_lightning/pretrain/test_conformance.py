# SPDX-License-Identifier: Apache-2.0
"""Two whole ways: from audio to label ids as others compute them, and to learning by heart."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.audio import read_audio
from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.masking import SpanMask
from wavlm_lightning.model.layout_configs import transformers_config
from wavlm_lightning.model.layouts import to_transformers
from wavlm_lightning.pretrain.kmeans import Quantizer
from wavlm_lightning.pretrain.label_features import LayerFeatures, WavLMTeacher
from wavlm_lightning.pretrain.objective import (
    MaskedPrediction,
    ObjectiveConfig,
    frames_to_predict,
)
from wavlm_lightning.seeding import generator


@pytest.mark.parametrize("style", ["base", "large"])
def test_label_ids_equal_those_of_transformers_and_scikit_learn(
    tiny: WavLMConfig, recordings: Path, style: str
) -> None:
    """The published example file of layer-9 ids is not to be had here; two libraries stand in."""
    from transformers import WavLMConfig as TheirConfig
    from transformers import WavLMModel

    if style == "large":
        tiny = dataclasses.replace(
            tiny, norm_first=True, feature_encoder_norm="layer", normalize_waveform=True
        )
    ours = WavLM(tiny).eval()
    theirs = WavLMModel(TheirConfig(**transformers_config(tiny))).eval()
    theirs.load_state_dict(to_transformers(ours))
    features = LayerFeatures(WavLMTeacher(ours), layer=1)
    waveforms = [read_audio(p) for p in sorted((recordings / "speech" / "dev").iterdir())]
    kmeans = KMeans(8, n_init=1, random_state=0).fit(torch.cat(features(waveforms)).numpy())
    quantizer = Quantizer(torch.from_numpy(kmeans.cluster_centers_).float(), {})
    for waveform in waveforms:
        given = waveform[None]
        if style == "large":
            given = (given - given.mean()) / (given.var(correction=0) + 1e-5).sqrt()
        with torch.no_grad():
            hidden = theirs(given, output_hidden_states=True).hidden_states[1][0]
        ids = quantizer(features([waveform])[0]).numpy()
        assert len(ids) == conv_lengths(len(waveform))
        # Two centroids can be equally near to within rounding; a frame in a hundred may differ.
        assert np.mean(ids == kmeans.predict(hidden.numpy())) > 0.99


def test_ten_utterances_are_learned_by_heart(tiny: WavLMConfig) -> None:
    config = ObjectiveConfig(projection_dim=32, temperature=0.1, feature_penalty=10.0)
    model, head = WavLM(tiny).train(), MaskedPrediction(tiny.dim, (20,), config)
    waveforms, lengths = 0.1 * torch.randn(10, 16_000), torch.full((10,), 16_000)
    frames = int(conv_lengths(16_000))
    labels = torch.randint(20, (10, frames // 4 + 1, 1)).repeat_interleave(4, dim=1)[:, :frames]
    draws = [generator(0, "mask", i) for i in range(10)]
    masked = SpanMask(prob=0.8, length=10, min_spans=2)([frames] * 10, draws)
    places = frames_to_predict(labels, masked)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=5e-3)
    accuracy = 0.0
    for _ in range(300):
        out = head(model(waveforms, lengths, masked).output, labels, places)
        accuracy = float(out.correct / out.frames)
        if accuracy > 0.95:
            break
        (out.loss / out.frames).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert accuracy > 0.95
