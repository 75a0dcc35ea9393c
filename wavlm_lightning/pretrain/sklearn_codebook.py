# SPDX-License-Identifier: Apache-2.0
"""Centroids of a k-means that scikit-learn fitted and joblib wrote, as fairseq's recipe does.

Such a file is a pickle with raw arrays between its parts. Only these are read: every class and
function that it names is replaced by one that does nothing, but for NumPy's types of numbers, so
that nothing in it is imported or run.
"""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CENTRES = "cluster_centers_"  # of scikit-learn's KMeans and MiniBatchKMeans
WRAPPER = ("joblib.numpy_pickle", "NumpyArrayWrapper")  # stands before an array's bytes
ALIGNED = "numpy_array_alignment_bytes"  # in what a wrapper holds since joblib 1.1


# Python's own, in Python: the one in C cannot be told to stop between its parts.
_Unpickler: Any = pickle._Unpickler


class _Nothing:
    """Takes the place of whatever the file names; keeps what it is given and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Wrapper(_Nothing):
    """Says of what type and shape the array is whose bytes come next."""


class _Arrays(_Unpickler):
    """Reads plain values and arrays of numbers."""

    dispatch = _Unpickler.dispatch.copy()

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.file = file  # arrays lie between the frames of the pickle

    def find_class(self, module: str, name: str) -> Any:
        """Nothing is imported."""
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        return _Wrapper if (module, name) == WRAPPER else _Nothing

    def load_build(self) -> None:
        """Rebuild an object as pickle does; the bytes of an array follow its wrapper."""
        super().load_build()
        if isinstance(self.stack[-1], _Wrapper):
            self.stack[-1] = self._array(self.stack[-1].state)

    dispatch[pickle.BUILD[0]] = load_build

    def _array(self, about: dict[str, Any]) -> NDArray[Any]:
        kind, shape = about["dtype"], tuple(int(n) for n in about["shape"])
        if not isinstance(kind, np.dtype) or kind.hasobject:
            raise ValueError("an array of objects, not of numbers")
        if about.get(ALIGNED) is not None:
            self.file.read(self.file.read(1)[0])
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        content = self.file.read(size)
        if len(content) != size:
            raise ValueError("it ends within an array")
        order: Any = "F" if about["order"] == "F" else "C"
        return np.frombuffer(content, kind).reshape(shape, order=order)


def read_sklearn_centroids(path: Path) -> Tensor:
    """Centroids (C, D) float32 of a file that `joblib.dump(KMeans)` wrote, not compressed.

    Raises:
        FileNotFoundError: naming the file.
        ValueError: naming the file, if no finite centroids can be read from it.
    """
    wanted = "it must be a scikit-learn k-means of joblib, not compressed"
    try:
        with path.open("rb") as file:
            model = _Arrays(file).load()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {path}") from error
    except Exception as error:  # on rubbish, pickle fails in any way
        raise ValueError(f"{path} cannot be read ({error}): {wanted}") from error
    state = model.state if isinstance(model, _Nothing) else None
    centres = state.get(CENTRES) if isinstance(state, dict) else None
    if not isinstance(centres, np.ndarray) or centres.ndim != 2 or centres.dtype.kind != "f":
        raise ValueError(f"{path} holds no {CENTRES}: {wanted}")
    if not np.isfinite(centres).all():
        raise ValueError(f"{path}: {CENTRES} are not finite")
    return torch.from_numpy(np.ascontiguousarray(centres)).float()
