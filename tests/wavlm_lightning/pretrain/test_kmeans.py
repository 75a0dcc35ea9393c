# SPDX-License-Identifier: Apache-2.0
"""k-means: blobs, inertia against scikit-learn, and the codebook on disk."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from wavlm_lightning.pretrain import kmeans
from wavlm_lightning.pretrain.kmeans import Quantizer, fit_kmeans

Preset = Literal["fast", "fairseq"]
FEATURES = {"kind": "mfcc", "rate": 100}


def make_frames(count: int, *, spread: float, centres: int = 30) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    places = rng.standard_normal((centres, 8))
    which = rng.integers(centres, size=count)
    frames = places[which] + spread * rng.standard_normal((count, 8))
    return torch.from_numpy(frames).float(), torch.from_numpy(which)


def inertia(frames: Tensor, centroids: Tensor) -> float:
    return float(torch.cdist(frames.double(), centroids.double()).min(1).values.square().mean())


def test_fast_preset_gives_each_blob_one_code() -> None:
    frames, blobs = make_frames(3_000, spread=0.01)
    codes = Quantizer(fit_kmeans(frames, 30, preset="fast", seed=0), FEATURES)(frames)
    pairs = {(int(b), int(c)) for b, c in zip(blobs, codes, strict=True)}
    assert len(pairs) == len(codes.unique()) == 30


def test_inertia_of_fast_is_within_five_percent_of_scikit_learns() -> None:
    frames, _ = make_frames(3_000, spread=0.7)
    fast, fairseq = (
        inertia(frames, fit_kmeans(frames, 20, preset=p, seed=0)) for p in ("fast", "fairseq")
    )
    assert abs(fast / fairseq - 1) < 0.05


@pytest.mark.parametrize("preset", ["fast", "fairseq"])
def test_same_seed_gives_the_same_centroids(preset: Preset) -> None:
    frames, _ = make_frames(300, spread=0.7)
    first, second = (fit_kmeans(frames, 10, preset=preset, seed=3) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_other_seed_gives_other_centroids() -> None:
    frames, _ = make_frames(1_000, spread=0.7)
    first, second = (fit_kmeans(frames, 10, preset="fast", seed=s) for s in (0, 1))
    assert not torch.equal(first, second)


def test_centroids_are_the_means_of_their_frames() -> None:
    frames, _ = make_frames(3_000, spread=0.05)
    centroids = fit_kmeans(frames, 30, preset="fast", seed=0)
    codes = Quantizer(centroids, FEATURES)(frames)
    means = torch.stack([frames[codes == c].mean(0) for c in range(30)])
    torch.testing.assert_close(centroids, means, rtol=0, atol=1e-3)


def test_batches_of_frames_do_not_change_the_centroids(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _ = make_frames(2_000, spread=0.7)
    whole = fit_kmeans(frames, 10, preset="fast", seed=0)
    monkeypatch.setattr(kmeans, "BATCH_FRAMES", 300)
    torch.testing.assert_close(fit_kmeans(frames, 10, preset="fast", seed=0), whole)


@pytest.mark.parametrize("preset", ["fast", "fairseq"])
def test_too_few_frames_are_refused_with_the_key(preset: Preset) -> None:
    with pytest.raises(
        ValueError, match=r"labels\.num_clusters must be at most the 9 .*\(got 10\)"
    ):
        fit_kmeans(torch.randn(9, 4), 10, preset=preset, seed=0)


def test_code_is_that_of_the_nearest_centroid() -> None:
    frames, _ = make_frames(500, spread=1.0)
    centroids = frames[:20] * 3 + 5  # far from the origin: the norms of centroids matter
    wanted = torch.cdist(frames.double(), centroids.double()).argmin(1)
    torch.testing.assert_close(Quantizer(centroids, FEATURES)(frames), wanted)


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (8,)])
def test_codebook_of_fewer_than_two_codes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"empty codebook: .*at least two codes"):
        Quantizer(torch.zeros(shape), FEATURES)


def test_saved_codebook_is_loaded_with_its_hash(tmp_path: Path) -> None:
    quantizer = Quantizer(torch.randn(5, 3), FEATURES | {"layer": 6, "name": "ünï"})
    quantizer.save(tmp_path / "quantizer.safetensors")
    back = Quantizer.load(tmp_path / "quantizer.safetensors")
    torch.testing.assert_close(back.centroids, quantizer.centroids, rtol=0, atol=0)
    assert (back.features, back.sha256) == (quantizer.features, quantizer.sha256)


def test_saving_leaves_one_file(tmp_path: Path) -> None:
    Quantizer(torch.randn(5, 3), FEATURES).save(tmp_path / "quantizer.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["quantizer.safetensors"]


def test_hash_knows_the_numbers() -> None:
    centroids = torch.randn(5, 3)
    other = centroids.clone()
    other[4, 2] += 1e-3
    assert Quantizer(centroids, FEATURES).sha256 != Quantizer(other, FEATURES).sha256


def test_hash_knows_what_is_clustered() -> None:
    centroids = torch.randn(5, 3)
    hidden = {"kind": "hidden", "rate": 50}
    assert Quantizer(centroids, FEATURES).sha256 != Quantizer(centroids, hidden).sha256
