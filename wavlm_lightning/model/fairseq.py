# SPDX-License-Identifier: Apache-2.0
"""Files of fairseq's HuBERT and wav2vec 2.0, read for their arrays alone.

They hold objects of classes that are not installed here, dictionaries and settings. Nothing of
these is imported or called: what is not an array becomes an empty placeholder.

Names and sizes: facebookresearch/fairseq 3d262bb, torchaudio 2.11 (its bundles of the same models).
"""

import dataclasses
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.layout_configs import config_from_shapes
from wavlm_lightning.model.layouts import State, rename

HEADS = {768: 12, 1024: 16, 1280: 16}  # attention heads of the published widths
# What pre-training has beside the encoder, in one or the other.
OBJECTIVE = ("final_proj.", "label_embs_concat", "quantizer.", "project_q.")
DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_fairseq(content: Mapping[str, Any]) -> bool:
    """Whether the weights have fairseq's names, and no position bias as a WavLM has."""
    state = content.get("model")
    if not isinstance(state, Mapping) or "post_extract_proj.weight" not in state:
        return False
    return not any("grep_" in str(name) or "relative_attention" in str(name) for name in state)


def encoder_of(content: Mapping[str, Any]) -> tuple[WavLMConfig, State]:
    """Configuration and weights, under our names, of content that `is_fairseq`.

    Raises:
        ValueError: for a width of which the number of heads is not known, or weights of another
            name.
    """
    state = {
        name: tensor
        for name, tensor in content["model"].items()
        if isinstance(tensor, Tensor) and not str(name).startswith(OBJECTIVE)
    }
    renamed = {name: tensor.float() for name, tensor in rename(state, "released", "ours").items()}
    dim = len(renamed["projection.weight"])
    if dim not in HEADS:
        raise ValueError(
            f"a HuBERT of fairseq must have one of the widths {', '.join(map(str, HEADS))} (got "
            f"{dim}): the file's arrays do not say how many heads there are"
        )
    config = config_from_shapes(renamed, num_heads=HEADS[dim], size="fairseq")
    return dataclasses.replace(config, position_bias="none"), renamed


def read_arrays(path: Path) -> Any:
    """The content of a torch file with placeholders for all but arrays and plain values.

    Raises:
        ValueError: if it cannot be read so.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = [n for n in archive.namelist() if n.endswith("/data.pkl") and n.count("/") == 1]
            (root,) = (name.removesuffix("data.pkl") for name in found)
            with archive.open(f"{root}data.pkl") as file:
                return _Reader(file, archive, root).load()
    except OSError:
        raise
    except Exception as error:  # on rubbish, a pickle fails in any way
        raise ValueError(f"{path} cannot be read for its arrays: {error}") from error


class _Reader(pickle.Unpickler):
    """Knows how arrays are put together; every other class and function is a placeholder."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, root: str):
        super().__init__(file)
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        """One of our own functions, or the placeholder; nothing is imported."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _array
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _of_parameter
        return DTYPES.get(name, _Placeholder) if module == "torch" else _Placeholder

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers of an array, (n,)."""
        _, dtype, key, _, count = pid
        if not isinstance(dtype, torch.dtype):
            raise ValueError("arrays of an unknown kind of number")
        content = bytearray(self._archive.read(f"{self._root}data/{key}"))
        if not content:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(content, dtype=dtype, count=int(count))


def _array(numbers: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """(n,) -> an array of a size."""
    return numbers.as_strided(size, stride, offset)


def _of_parameter(tensor: Tensor, *_: Any) -> Tensor:
    """The array (...) of a parameter (...)."""
    return tensor


class _Placeholder:
    """Stands for an object, and takes what a pickle does to it."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Forget it."""

    def extend(self, values: Any) -> None:
        """Forget them."""
