# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's k-means by joblib: its numbers come through, and nothing in a file is run."""

import os
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans

from wavlm_lightning.pretrain.sklearn_codebook import read_sklearn_centroids


@pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centroids_are_those_that_were_fitted(tmp_path: Path, cls: Any, dtype: type) -> None:
    frames = np.random.default_rng(0).standard_normal((300, 7)).astype(dtype)
    model = cls(5, n_init=1, random_state=0).fit(frames)
    joblib.dump(model, tmp_path / "km.bin")
    found = read_sklearn_centroids(tmp_path / "km.bin")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.from_numpy(model.cluster_centers_).float())


def test_arrays_that_lie_columns_first_are_read_so(tmp_path: Path) -> None:
    model = KMeans(5)
    model.cluster_centers_ = np.asfortranarray(np.arange(15.0).reshape(5, 3))
    joblib.dump(model, tmp_path / "km.bin")
    wanted = torch.arange(15.0).reshape(5, 3)
    torch.testing.assert_close(read_sklearn_centroids(tmp_path / "km.bin"), wanted)


class Harm:
    """A pickle of it touches a file when it is loaded as pickles are."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def harmful(tmp_path: Path, where: str) -> Path:
    """A file that makes the folder `tmp_path / "harm"` when it is loaded by joblib."""
    path, harm = tmp_path / "km.bin", Harm(tmp_path / "harm")
    model = KMeans(5)
    model.cluster_centers_ = np.arange(15.0).reshape(5, 3)
    if where == "beside the centroids":
        model.labels_ = harm
    elif where == "in place of the centroids":
        model.cluster_centers_ = harm
    elif where == "in an array of objects":
        model.labels_ = np.array([harm, None], dtype=object)
    if where == "alone":
        path.write_bytes(pickle.dumps(harm))
    else:
        joblib.dump(model, path)
    return path


WHERE = ["beside the centroids", "in place of the centroids", "in an array of objects", "alone"]


@pytest.mark.parametrize("where", WHERE)
def test_nothing_in_a_file_is_run(tmp_path: Path, where: str) -> None:
    path = harmful(tmp_path, where)
    if where == "beside the centroids":
        assert read_sklearn_centroids(path).shape == (5, 3)
    else:
        with pytest.raises(ValueError, match=r"km\.bin"):
            read_sklearn_centroids(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("where", WHERE)
def test_the_files_of_that_test_do_harm_where_they_are_loaded(tmp_path: Path, where: str) -> None:
    joblib.load(harmful(tmp_path, where))
    assert (tmp_path / "harm").exists()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "content",
    [b"", b"rubbish", pickle.dumps({"a": 1}), pickle.dumps(np.zeros((2, 2)))],
    ids=["empty", "rubbish", "a dictionary", "a plain array"],
)
def test_what_is_no_k_means_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "km.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"km\.bin .*a scikit-learn k-means of joblib"):
        read_sklearn_centroids(path)


@pytest.mark.bad_input
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_that_was_cut_is_named(tmp_path: Path, share: float) -> None:
    model = KMeans(5, n_init=1).fit(np.random.default_rng(0).standard_normal((300, 7)))
    joblib.dump(model, tmp_path / "km.bin")
    content = (tmp_path / "km.bin").read_bytes()
    (tmp_path / "km.bin").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"km\.bin cannot be read"):
        read_sklearn_centroids(tmp_path / "km.bin")


@pytest.mark.bad_input
def test_centroids_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = KMeans(2)
    model.cluster_centers_ = np.array([[1.0, np.nan], [0.0, 1.0]])
    joblib.dump(model, tmp_path / "km.bin")
    with pytest.raises(ValueError, match=r"km\.bin: cluster_centers_ are not finite"):
        read_sklearn_centroids(tmp_path / "km.bin")


def test_compressed_files_are_refused_by_what_is_wanted(tmp_path: Path) -> None:
    model = KMeans(2)
    model.cluster_centers_ = np.zeros((2, 2))
    joblib.dump(model, tmp_path / "km.bin", compress=3)
    with pytest.raises(ValueError, match="k-means of joblib, not compressed"):
        read_sklearn_centroids(tmp_path / "km.bin")
