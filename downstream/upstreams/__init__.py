# SPDX-License-Identifier: Apache-2.0
"""Kinds of upstreams, found by name: a kind is a file here, `upstream.kind` is its name.

A kind is a module with three functions:

    load(config: UpstreamConfig) -> tuple[Frozen, str]: the upstream, and the SHA-256 of its weights
    depends_on(config: UpstreamConfig) -> str: keys of its own that features depend on
    recognizes(path: Path) -> bool: whether a file or folder is one of its models
"""

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from downstream.features.frozen import Frozen
    from downstream.upstreams.config import UpstreamConfig

NO_KINDS = {"config"}


class Kind(Protocol):
    """A module of this package."""

    def load(self, config: "UpstreamConfig") -> "tuple[Frozen, str]": ...
    def depends_on(self, config: "UpstreamConfig") -> str: ...
    def recognizes(self, path: Path) -> bool: ...


def kind_names() -> list[str]:
    """Names of all kinds, sorted."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - NO_KINDS)


def kind_module(name: str) -> Kind:
    """The module of a kind.

    Raises:
        ValueError: listing the kinds there are.
    """
    if name not in kind_names():
        raise ValueError(f"upstream.kind must be one of {', '.join(kind_names())} (got {name})")
    return cast(Kind, importlib.import_module(f"{__name__}.{name}"))
