# SPDX-License-Identifier: Apache-2.0
"""The kinds of upstreams there are."""

import importlib
import pkgutil
from types import ModuleType

from wavlm_lightning.downstream import upstreams


def kind_names() -> list[str]:
    """Names of all kinds, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(upstreams.__path__))


def kind_module(name: str) -> ModuleType:
    """The module of one of these kinds."""
    return importlib.import_module(f"{upstreams.__name__}.{name}")
