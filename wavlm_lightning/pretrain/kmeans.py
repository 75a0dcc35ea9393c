# SPDX-License-Identifier: Apache-2.0
"""k-means: from frames to a codebook, and from a frame to its code.

Two presets. "fairseq": scikit-learn's MiniBatchKMeans with the settings of HuBERT's recipe (fairseq
3d262bb, examples/hubert/simple_kmeans/learn_kmeans.py). "fast": k-means++ seeding on a sample, then
Lloyd's iterations over all frames in torch; the same inertia in a twentieth of the time.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wavlm_lightning.files import replacing

SEEDING_FRAMES = 20_000  # k-means++ looks at this many frames
BATCH_FRAMES = 100_000  # distances are computed for this many frames at a time


@dataclass(frozen=True)
class Quantizer:
    """A codebook and what its frames are.

    Attributes:
        centroids: (C, D) float32.
        features: plain values that say what was clustered: kind, rate, layer, teacher.
    """

    centroids: Tensor
    features: dict[str, Any]

    def __post_init__(self) -> None:
        if self.centroids.ndim != 2 or len(self.centroids) < 2:
            raise ValueError(
                f"empty codebook: centroids must be at least two codes (got shape "
                f"{tuple(self.centroids.shape)}); make the labels again"
            )

    def __call__(self, frames: Tensor) -> Tensor:
        """(F, D) -> (F,) int64, the nearest centroid of each frame; distances in float32.

        >>> Quantizer(torch.tensor([[0.0], [10.0]]), {})(torch.tensor([[1.0], [9.0]]))
        tensor([0, 1])
        """
        c = self.centroids.to(frames.device)
        # |x|^2 is the same for all centroids of a frame and left out.
        return (c.square().sum(1) - 2 * frames.float() @ c.T).argmin(1)

    @property
    def sha256(self) -> str:
        """Hash of the codebook's numbers and of what it clusters."""
        digest = hashlib.sha256(self.centroids.float().contiguous().numpy().tobytes())
        digest.update(json.dumps(self.features, sort_keys=True).encode())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        metadata = {"features": json.dumps(self.features)}
        with replacing(path) as temporary:
            save_file({"centroids": self.centroids.contiguous()}, temporary, metadata=metadata)

    @classmethod
    def load(cls, path: Path) -> "Quantizer":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: naming the file.
            ValueError: naming the file, if it holds no codebook.
        """
        try:
            with safe_open(path, "pt") as file:
                features = json.loads(file.metadata()["features"])
                centroids = file.get_tensor("centroids")
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is no file {path}") from error
        except (SafetensorError, TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} holds no codebook ({error}): make the labels again"
            ) from error
        return cls(centroids, features)


def fit_kmeans(
    frames: Tensor, num_clusters: int, *, preset: Literal["fast", "fairseq"], seed: int
) -> Tensor:
    """Centroids (C, D) float32 of frames (N, D).

    Args:
        frames: (N, D) float32.
        num_clusters: Number of centroids, C.
        preset: Iterations and initialization; "fairseq" is that of the published labels.
        seed: Of the initialization and the order of batches.

    Raises:
        ValueError: if there are fewer frames than clusters.
    """
    if len(frames) < num_clusters:
        raise ValueError(
            f"labels.num_clusters must be at most the {len(frames)} frames that are clustered (got "
            f"{num_clusters}). Lower it, or give more audio"
        )
    if preset == "fairseq":
        return _minibatch(frames, num_clusters, seed=seed)
    return _lloyd(frames.float(), num_clusters, seed=seed)


def _minibatch(frames: Tensor, num_clusters: int, *, seed: int) -> Tensor:
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(
        n_clusters=num_clusters,
        init="k-means++",
        max_iter=100,
        batch_size=10_000,
        tol=0.0,
        max_no_improvement=100,
        n_init=20,
        reassignment_ratio=0.0,
        random_state=seed,
        compute_labels=False,
    )
    return torch.from_numpy(model.fit(frames.numpy()).cluster_centers_).float()


def _lloyd(
    frames: Tensor, num_clusters: int, *, seed: int, iterations: int = 30, tolerance: float = 1e-4
) -> Tensor:
    """Stops when an iteration lowers the mean squared distance by less than `tolerance`."""
    from sklearn.cluster import kmeans_plusplus

    generator = torch.Generator().manual_seed(seed)
    sample = frames[torch.randperm(len(frames), generator=generator)[:SEEDING_FRAMES]]
    centroids = torch.from_numpy(
        kmeans_plusplus(sample.numpy(), num_clusters, random_state=seed)[0]
    ).float()
    previous = float("inf")
    for _ in range(iterations):
        sums, counts, inertia = _assign(frames, centroids)
        # A centroid that nothing is near stays where it is.
        means = sums / counts.clamp(min=1)[:, None]
        centroids = torch.where(counts[:, None] > 0, means, centroids)
        if previous - inertia < tolerance * inertia:
            break
        previous = inertia
    return centroids


def _assign(frames: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor, float]:
    """Sum (C, D) and number (C,) of the frames nearest to each centroid, mean squared distance."""
    sums, counts = torch.zeros_like(centroids), torch.zeros(len(centroids))
    inertia = 0.0
    for batch in frames.split(BATCH_FRAMES):
        distances = centroids.square().sum(1) - 2 * batch @ centroids.T
        nearest, codes = distances.min(1)
        inertia += float((nearest + batch.square().sum(1)).double().sum())
        sums.index_add_(0, codes, batch)
        counts.index_add_(0, codes, torch.ones(len(batch)))
    return sums, counts, inertia / len(frames)
