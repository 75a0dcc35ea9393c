# SPDX-License-Identifier: Apache-2.0
"""A class of a user's own, `UPSTREAM=my_module:MyUpstream`.

It has `dim`, `num_layers` and `stride` (samples from one frame to the next), and is called with
waveforms (B, T), float32 at 16 kHz, and lengths (B,); it returns its layers, `num_layers` tensors
(B, F, dim), or a pair of these and the frames (B,) of each row. Where it gives no frames, and no
`num_frames(num_samples)`, a row has one every `stride` samples that it holds whole.
"""

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.model.transformers_encoder import digest_of_tensors
from wavlm_lightning.user_classes import user_class

NEEDED = ("dim", "num_layers", "stride")


def load(config: UpstreamConfig) -> tuple[Frozen, str]:
    """The class at `upstream.source`, made without arguments, and the hash of it and its weights.

    Raises:
        ValueError: naming the key, if there is no such class, or it lacks what is needed.
    """
    cls: Any = user_class(str(config.source), key="upstream.source")
    made = cls()
    module = made if isinstance(made, nn.Module) else _Wrapped(made)
    for name in NEEDED:
        value = getattr(made, name, None)
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"upstream.source={config.source}: {name} must be a whole number above 0 (got "
                f"{value!r})"
            )
    digest = hashlib.sha256(_source(cls) + digest_of_tensors(module).encode()).hexdigest()
    # Nothing is known of how it treats padding, so no row is given any.
    return Frozen(OwnUpstream(made, module), precision=config.precision, grouped=False), digest


def depends_on(config: UpstreamConfig) -> str:
    """Nothing beside the hash."""
    return ""


def recognizes(path: Path) -> bool:
    """Nothing: a class is no file."""
    return False


def _source(cls: type) -> bytes:
    """The text of its module, so that features of another version of it are not taken for these."""
    try:
        return Path(inspect.getfile(cls)).read_bytes()
    except (OSError, TypeError):
        return b""


class _Wrapped(nn.Module):
    """What is no module has no parameters."""

    def __init__(self, call: Any):
        super().__init__()
        self.call = call

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Any:
        """Waveforms (B, T) with lengths (B,) -> what it returns."""
        return self.call(waveforms, lengths)


class OwnUpstream(nn.Module):
    """Gives rows to the class one by one, unless all are equally long.

    Args:
        made: An object of the class.
        module: The same as a module.
    """

    def __init__(self, made: Any, module: nn.Module):
        super().__init__()
        self.module = module
        self.dim, self.num_layers, self.stride = made.dim, made.num_layers, made.stride
        self._count = getattr(made, "num_frames", None)

    def num_frames(self, num_samples: int) -> int:
        """Frames as the class counts them, or one every stride that fits whole."""
        return num_samples // self.stride if self._count is None else int(self._count(num_samples))

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> layers of (B, F, D), lengths (B,)."""
        if bool((lengths == waveforms.shape[1]).all()):
            return self._checked(waveforms, lengths)
        rows = [
            self._checked(row[None, : int(n)], n[None])
            for row, n in zip(waveforms, lengths, strict=True)
        ]
        layers = tuple(
            nn.utils.rnn.pad_sequence([x[0] for x in layer], batch_first=True)
            for layer in zip(*(row.layers for row in rows), strict=True)
        )
        return Features(layers, torch.cat([row.lengths for row in rows]))

    def _checked(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Features of rows without padding (B, T).

        Raises:
            ValueError: if they are not what the class says of itself.
        """
        found = self.module(waveforms, lengths)
        layers, frames = _layers_and_frames(found)
        shapes = [tuple(layer.shape) for layer in layers]
        wanted = (
            (len(waveforms), shapes[0][1], self.dim) if shapes and layers[0].ndim == 3 else None
        )
        if len(layers) != self.num_layers or any(shape != wanted for shape in shapes):
            raise ValueError(
                f"the upstream must return {self.num_layers} layers (B, F, {self.dim}), as its "
                f"num_layers and dim say (got {shapes})"
            )
        if frames is None:
            frames = torch.full((len(waveforms),), layers[0].shape[1])
        return Features(tuple(layers), frames.cpu())


def _layers_and_frames(found: Any) -> tuple[Sequence[Tensor], Tensor | None]:
    """Layers alone, or layers and frames."""
    if isinstance(found, Tensor):
        return [found], None
    if len(found) == 2 and not isinstance(found[0], Tensor):
        return list(found[0]), found[1]
    return list(found), None
