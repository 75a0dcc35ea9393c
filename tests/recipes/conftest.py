# SPDX-License-Identifier: Apache-2.0
"""A pre-training and a task that take seconds, on recordings that the tests make."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.results import ProbeResult
from wavlm_lightning.recipes.mini import NAMES, superb_corpus

CONFIG = """
model:
  {size: mini, num_layers: 2, dim: 32, ffn_dim: 64, num_heads: 4, feature_encoder_dim: 16,
   position_kernel: 16, position_groups: 4, layer_drop: 0.2}
data:
  {min_samples: 32000, max_samples: 48000, seconds_per_batch: 7, audio_seconds_per_update: 14,
   num_workers: 0}
mask: {prob: 0.8, length: 10, min_spans: 2}
mixing: {prob: 0.5, noise_prob: 0.3, speech_db: [-5, 5], noise_db: [-5, 20], max_overlap: 0.5}
labels: {features: hidden, layer: 1, num_clusters: 5, fit_share: 1.0}
objective: {projection_dim: 16, temperature: 0.1, feature_penalty: 10.0}
optim:
  {lr: 1e-3, betas: [0.9, 0.98], eps: 1e-6, weight_decay: 0.01, warmup_updates: 2,
   total_updates: 8, clip: 10.0}
run: {validate_updates: 4, checkpoint_updates: 2}
trainer: {precision: 32-true, log_every_n_steps: 1}
iterations:
  - {labels.features: mfcc, mixing.prob: 0.0, optim.total_updates: 3}
"""


@pytest.fixture
def words(tmp_path: Path, recordings: Path) -> list[str]:
    """Command-line words of that pre-training; its runs lie in `tmp_path / "runs"`."""
    config = tmp_path / "tiny.yaml"
    config.write_text(CONFIG)
    return [
        f"--config={config}",
        f"--data.root={recordings / 'speech'}",
        f"--data.noise={recordings / 'noise'}",
        f"--run.dir={tmp_path / 'runs'}",
    ]


@pytest.fixture
def mfcc_labels(tmp_path: Path, recordings: Path) -> Path:
    """A finished label folder for the recordings."""
    from wavlm_lightning.recipes.pretrain.labels import main

    out = tmp_path / "labels"
    words = [f"--root={recordings / 'speech'}", f"--out={out}"]
    assert main([*words, "--features=mfcc", "--num_clusters=5", "--fit_share=1.0"]) == 0
    return out


@pytest.fixture(scope="session")
def paths(mini_cache: Path) -> list[str]:
    """Words that say where tiny corpora lie."""
    return [f"--paths.{name}={superb_corpus(name, mini_cache, tiny=True)}" for name in NAMES]


@pytest.fixture
def probe_words(paths: list[str], tmp_path: Path) -> list[str]:
    """Command-line words of a task that takes seconds."""
    return [
        *paths,
        "--protocol=mini",
        "--optim.total_updates=6",
        "--run.validate_updates=2",
        "--run.checkpoint_updates=1",
        f"--run.dir={tmp_path / 'runs'}",
        f"--run.results={tmp_path / 'results'}",
        f"--cache.dir={tmp_path / 'cache'}",
        "--cache.keep=always",  # what is measured may come out otherwise the next time
        "--data.num_workers=0",
        "--data.batch_size=4",
        "--trainer.log_every_n_steps=1",
    ]


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """A folder of results."""
    return tmp_path / "results"


@pytest.fixture
def write_score(scores: Path) -> Callable[..., None]:
    """Writes a result; what a test does not say is the same in all."""

    def one(task: str, upstream: str, value: float, **rest: Any) -> None:
        kind = load_task(task)
        config = {"optim.total_updates": 100, "upstream.sha256": "ab" * 32}
        values: dict[str, Any] = {
            "task": task,
            "upstream": upstream,
            "corpus": "mini",
            "kind": "mini",
            "headline": kind.headline,
            "mode": kind.headline_mode,
            "metrics": {kind.headline: value, **rest.pop("more", {})},
            "selected_on": kind.monitor,
            "best": {"": {"value": value, "update": 80.0}},
            "layer_weights": [0.2, 0.3, 0.5],
            "curves": {"": {kind.monitor: [(39, value + 5), (79, value)]}},
            "published": {},
            "config": config | rest.pop("config", {}),
            "seed": 0,
            "checkpoint": "best.ckpt",
            "checkpoint_sha256": "cd" * 32,
            "checkpoints": {},
            "counts": {"test_utterances": 7},
            "seconds": 12.3,
            "run": "runs/x",
            "commit": "a2e8dac31d67ca4c+changes",
            "versions": {},
        }
        result = ProbeResult(**(values | rest))
        path = scores / upstream / f"{task}.{result.corpus}.seed{result.seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(result)))

    return one
