# SPDX-License-Identifier: Apache-2.0
"""Files made to run code or to write elsewhere, at every door that files come in by: none does."""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavlm_lightning.checkpoint_file import read_checkpoint
from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.upstream import load_upstream
from wavlm_lightning.model.checkpoint import load_wavlm
from wavlm_lightning.pretrain.kmeans import Quantizer
from wavlm_lightning.pretrain.labels import _array
from wavlm_lightning.pretrain.sklearn_codebook import read_sklearn_centroids


class ByCommand:
    """A shell command."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


class ByEval(ByCommand):
    """Python's own eval."""

    def __reduce__(self) -> Any:
        return eval, (f"open({str(self.mark)!r}, 'w').close()",)


class ByState(ByCommand):
    """A harmless list that is filled by a harmful call."""

    def __reduce__(self) -> Any:
        return list, (), None, iter([ByEval(self.mark)])


PAYLOADS = [ByCommand, ByEval, ByState]


def plain_pickle(value: Any) -> bytes:
    return pickle.dumps({"cfg": {}, "model": value, "state_dict": value}, protocol=2)


def bare_pickle(value: Any) -> bytes:
    return pickle.dumps(value, protocol=4)


def torch_archive(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save({"model": {"w": torch.zeros(2)}, "cfg": value}, file)
    return file.getvalue()


def torch_legacy(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save({"model": value}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def array_of_objects(value: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([value], dtype=object), allow_pickle=True)
    return file.getvalue()


CONTAINERS = [plain_pickle, bare_pickle, torch_archive, torch_legacy, array_of_objects]
DOORS: dict[str, Callable[[Path], Any]] = {
    "a checkpoint": read_checkpoint,
    "a model": load_wavlm,
    "an upstream": lambda path: load_upstream(UpstreamConfig(kind="wavlm", source=str(path))),
    "a codebook": Quantizer.load,
    "a codebook of scikit-learn": read_sklearn_centroids,
    "labels": _array,
}


@pytest.mark.bad_input
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_file_that_would_run_code_is_refused(
    tmp_path: Path, payload: type[ByCommand], container: Callable[[Any], bytes], door: str
) -> None:
    path, mark = tmp_path / "file.pt", tmp_path / "mark"
    path.write_bytes(container(payload(mark)))
    with pytest.raises(ValueError, match=r"file\.pt"):
        DOORS[door](path)
    assert not mark.exists()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_payloads_run_where_pickles_are_trusted(
    tmp_path: Path, payload: type[ByCommand]
) -> None:
    pickle.loads(bare_pickle(payload(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()
