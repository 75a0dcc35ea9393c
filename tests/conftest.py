# SPDX-License-Identifier: Apache-2.0
"""What several tests need: a tiny WavLM, a folder of speech-like recordings, real recordings."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import wavlm_lightning.recipes  # noqa: F401  (first: it sets how torch's threads wait)
from wavlm_lightning import WavLMConfig


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny() -> WavLMConfig:
    """Base's mechanisms with two narrow layers and no dropout."""
    return dataclasses.replace(
        WavLMConfig.base(),
        size="mini",
        num_layers=2,
        dim=32,
        ffn_dim=64,
        num_heads=4,
        feature_encoder_dim=16,
        position_kernel=16,
        position_groups=4,
        dropout=0.0,
        attention_dropout=0.0,
        input_dropout=0.0,
        layer_drop=0.0,
    )


def write_speech(path: Path, seconds: float, *, seed: int, rate: int = 16_000) -> None:
    """A recording whose sound changes every tenth of a second, as speech does."""
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(round(seconds * 10)):
        pitch, width = rng.choice([120, 200, 310, 450, 700]), rate // 10
        t = np.arange(width) / rate
        pieces.append(0.1 * np.sin(2 * np.pi * pitch * t) + 0.01 * rng.standard_normal(width))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate(pieces).astype(np.float32), rate)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve recordings of 2 to 4 s to train on, four to validate, and two of noise."""
    root = tmp_path_factory.mktemp("recordings")
    for i in range(12):
        write_speech(root / "speech" / "train" / f"{i:02d}.wav", 2.1 + 0.15 * i, seed=i)
    for i in range(4):
        write_speech(root / "speech" / "dev" / f"{i:02d}.flac", 2.5 + 0.2 * i, seed=100 + i)
    rng = np.random.default_rng(7)
    for i in range(2):
        path = root / "noise" / f"{i}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, (0.05 * rng.standard_normal(24_000)).astype(np.float32), 16_000)
    return root


@pytest.fixture(scope="session")
def mini_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tiny corpora are made, once for all that test; WAVLM_TEST_CORPORA=DIR keeps them."""
    if kept := os.environ.get("WAVLM_TEST_CORPORA"):
        return Path(kept)
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    (shared / "corpora").mkdir(exist_ok=True)
    return shared / "corpora"


@pytest.fixture(scope="session")
def real_speech() -> Path:
    """Small sets of real recordings; skipped where there are none."""
    root = Path(os.environ.get("WAVLM_DATA", "../shared/data"))
    if not (root / "libri_mini" / "manifest.tsv").is_file():
        pytest.skip("no real recordings: set WAVLM_DATA to a folder that holds libri_mini")
    return root
