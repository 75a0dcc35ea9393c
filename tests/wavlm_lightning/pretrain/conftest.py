# SPDX-License-Identifier: Apache-2.0
"""Recordings, labels and a small model that the tests of pre-training share."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.pretrain.labels import Labels

SAMPLE_RATE = 16_000
Record = Callable[..., Path]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Writes noise of some samples below the test's folder; the name decides the format."""

    def write(
        path: str | Path,
        num_samples: int = 8_000,
        *,
        rate: int = SAMPLE_RATE,
        channels: int = 1,
        seed: int = 0,
    ) -> Path:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * np.random.default_rng(seed).standard_normal((num_samples, channels))
        soundfile.write(str(target), noise.astype(np.float32), rate)
        return target

    return write


@pytest.fixture
def labels_of() -> Callable[..., Labels]:
    """Labels in memory, one array an utterance."""

    def make(codes: list[NDArray[np.integer]], *, rate: int = 50, clusters: int = 500) -> Labels:
        offsets = np.cumsum([0, *map(len, codes)]).astype(np.int64)
        flat = np.concatenate(codes).astype(np.uint16)
        return Labels("labels/train", flat, offsets, rate, clusters, "0" * 64)

    return make


@pytest.fixture(scope="module")
def tiny_model() -> WavLM:
    """One block, normalised over channels, so that a frame knows nothing of the file's length."""
    config = dataclasses.replace(
        WavLMConfig.mini(),
        num_layers=1,
        dim=32,
        ffn_dim=64,
        num_heads=2,
        feature_encoder_dim=16,
        feature_encoder_norm="layer",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return WavLM(config).eval()
