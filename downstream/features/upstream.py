# SPDX-License-Identifier: Apache-2.0
"""Which upstream, and how it is loaded: kinds are found by name in `downstream/upstreams`."""

from pathlib import Path

from downstream.features.frozen import Frozen
from downstream.upstreams import kind_module, kind_names
from downstream.upstreams.config import UpstreamConfig
from wavlm_lightning.precision import computes_bfloat16

# Of the code that computes features: raised when they change, so that older kept ones are not used.
FEATURES_VERSION = 6


def load_upstream(config: UpstreamConfig) -> tuple[Frozen, str]:
    """The frozen upstream, and the SHA-256 of its weights ("none" where it has none).

    Raises:
        ValueError: naming the key, for a source that is missing or does not fit.
        FileNotFoundError: naming the source.
    """
    frozen, digest = kind_module(config.kind).load(config)
    return frozen, digest


def fingerprint(config: UpstreamConfig, digest: str, device: str) -> str:
    """What features depend on beside the samples: code, weights, settings, number format."""
    wanted = config.precision
    if wanted == "auto":
        wanted = "bfloat16" if computes_bfloat16(device) else "float32"
    of_kind = kind_module(config.kind).depends_on(config)
    about = f"{config.kind} {digest} {of_kind}"
    return f"{FEATURES_VERSION} {about} {config.masked_group_norm} {wanted}"


def kind_of(path: Path) -> str:
    """The kind that recognizes a file or folder; `wavlm` for whatever no other one does."""
    found = [name for name in kind_names() if kind_module(name).recognizes(path)]
    return found[0] if found else "wavlm"
