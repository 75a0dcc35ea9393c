# SPDX-License-Identifier: Apache-2.0
"""Files of weights: torch's and safetensors', in one file or in the parts of a folder.

Nothing in a file is run. What cannot be read is said with the file's name.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavlm_lightning.checkpoint_file import DamagedFileError, read_checkpoint, why_unreadable
from wavlm_lightning.files import read_json
from wavlm_lightning.hashing import file_sha256
from wavlm_lightning.model.layouts import State, some

# Of transformers, in the order in which they are looked for; an index lists parts of large ones.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"


def source_sha256(path: Path) -> str:
    """Hash of a file, or of the files of weights of a folder; "none" if it has none."""
    if path.is_file():
        return file_sha256(path)
    hashes = [file_sha256(file) for file in weight_files(path)]
    if len(hashes) < 2:
        return hashes[0] if hashes else "none"
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def read_folder(folder: Path) -> State:
    """All weights of a folder of transformers, in one file or in several.

    Raises:
        FileNotFoundError: if there are none, or a part is missing.
        ValueError: naming the file that cannot be read.
    """
    files = weight_files(folder)
    if not files:
        raise FileNotFoundError(f"{folder} is no folder of transformers: it has no {WEIGHTS[0]}")
    state: State = {}
    for file in files:
        state |= read_weights(file)
    return state


def weight_files(folder: Path) -> list[Path]:
    """The files of weights of a folder of transformers; [] if there are none.

    Raises:
        FileNotFoundError: if a part is missing that the index names.
        ValueError: naming an index that cannot be read.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        if (index := folder / (name + INDEX)).is_file():
            return [inside(folder, part) for part in _parts(index)]
    return []


def _parts(index: Path) -> list[str]:
    """Names of files: what an index says of folders is left out."""
    places = mapping(read_json(index), str(index)).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
        raise ValueError(f"{index} has no weight_map of names and files")
    return sorted({Path(place).name for place in places.values()})


def inside(folder: Path, name: str) -> Path:
    """A file of a folder of transformers.

    Raises:
        FileNotFoundError: if it has none of that name.
    """
    if not (folder / name).is_file():
        raise FileNotFoundError(f"{folder} is no folder of transformers: it has no {name}")
    return folder / name


def read_weights(path: Path) -> State:
    """The tensors of a file of torch or safetensors, by name.

    Raises:
        DamagedFileError: if it cannot be read, or holds more than tensors.
    """
    if path.suffix != ".safetensors":
        return tensors(read_checkpoint(path), str(path))
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedFileError(
            f"{path} cannot be read: {why_unreadable(path, kind='safetensors')}"
        ) from error


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """A value that must be a mapping.

    Raises:
        ValueError: naming it.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a mapping (got a {type(value).__name__})")
    return value


def tensors(value: Any, name: str) -> State:
    """A value that must be a mapping of names to tensors.

    Raises:
        ValueError: naming it, and what is no tensor.
    """
    state = dict(mapping(value, name))
    if wrong := [key for key, item in state.items() if not isinstance(item, Tensor)]:
        raise ValueError(f"{name} holds more than tensors: {some(sorted(map(str, wrong)))}")
    return state


def check_finite_weights(state: Mapping[str, Tensor], source: Path | str) -> None:
    """Refuse weights that make every feature NaN.

    Raises:
        ValueError: naming the source and the tensors.
    """
    wrong = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise ValueError(
            f"{source} holds weights that are NaN or infinite: {some(wrong)}; take an earlier "
            "checkpoint"
        )
