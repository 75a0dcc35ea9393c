# SPDX-License-Identifier: Apache-2.0
"""Which upstream, and how it is loaded: kinds are found by name in `downstream/upstreams`."""

from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast

from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.features.kinds import kind_module, kind_names
from wavlm_lightning.model.checkpoint import local_path
from wavlm_lightning.runtime import computes_bfloat16

# Of the code that computes features: raised when they change, so that older kept ones are not used.
FEATURES_VERSION = 6


class Kind(Protocol):
    """A module of `downstream.upstreams`."""

    def load(self, config: UpstreamConfig) -> tuple[Frozen, str]: ...
    def depends_on(self, config: UpstreamConfig) -> str: ...
    def recognizes(self, path: Path) -> bool: ...


def _kind(name: str) -> Kind:
    module: Any = kind_module(name)
    return cast(Kind, module)


def load_upstream(config: UpstreamConfig) -> tuple[Frozen, str]:
    """The frozen upstream, and the SHA-256 of its weights ("none" where it has none).

    Raises:
        ValueError: naming the key, for a source that is missing or does not fit.
        FileNotFoundError: naming the source.
    """
    return _kind(config.kind).load(config)


def fingerprint(config: UpstreamConfig, digest: str, device: str) -> str:
    """What features depend on beside the samples: code, weights, settings, number format."""
    precision = str(config.precision)
    if precision == "auto":
        precision = "bfloat16" if computes_bfloat16(device) else "float32"
    of_kind = _kind(config.kind).depends_on(config)
    about = f"{config.kind} {digest} {of_kind}"
    return f"{FEATURES_VERSION} {about} {config.masked_group_norm} {precision}"


def hub_kind(name: str) -> str:
    """The kind of a hub id: what its files say if they are here, else what its name says."""
    with suppress(FileNotFoundError):
        return kind_of(local_path(name, download=False))
    return "wavlm" if "wavlm" in name.lower() else "transformers"


def kind_of(path: Path) -> str:
    """The kind that recognizes a file or folder; `wavlm` for whatever no other one does."""
    found = [name for name in kind_names() if _kind(name).recognizes(path)]
    return found[0] if found else "wavlm"
