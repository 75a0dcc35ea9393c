# SPDX-License-Identifier: Apache-2.0
"""Hashes of files and of what is in them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_sha256(content: Any) -> str:
    """Hash of tensors and plain values, nested in mappings and lists.

    Equal contents have equal hashes, whatever file they came in: order of keys counts, devices and
    memory layouts do not.

    Raises:
        TypeError: for a value of another kind.

    >>> content_sha256({"a": torch.ones(2)}) == content_sha256({"a": torch.ones(2)})
    True
    """
    digest = hashlib.sha256()
    _add(digest, content)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Every value is preceded by its kind and size, so that no two contents run together."""
    if isinstance(value, Tensor):
        digest.update(f"tensor {value.dtype} {tuple(value.shape)}\n".encode())
        plain = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(plain.numpy().data)
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)}\n".encode())
        for key, item in value.items():
            _add(digest, key)
            _add(digest, item)
    elif isinstance(value, list | tuple):
        digest.update(f"list {len(value)}\n".encode())
        for item in value:
            _add(digest, item)
    elif value is None or isinstance(value, bool | int | float | str | bytes | torch.Size):
        text = repr(value).encode()
        digest.update(f"{type(value).__name__} {len(text)}\n".encode() + text)
    elif isinstance(value, torch.dtype | torch.device):
        digest.update(f"{value}\n".encode())
    else:
        raise TypeError(f"a {type(value).__name__} is neither a tensor nor a plain value")
