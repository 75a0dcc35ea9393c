# SPDX-License-Identifier: Apache-2.0
"""WavLM of any origin: our checkpoints, released files, folders of transformers."""

from pathlib import Path

from torch import Tensor, nn

from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.lengths import HOP, conv_lengths
from wavlm_lightning.model.checkpoint import load_wavlm, local_path
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.model.weights import source_sha256
from wavlm_lightning.shipped import command, extras


def load(config: UpstreamConfig) -> tuple[Frozen, str]:
    """The model at `upstream.source`, and the hash of its file.

    Raises:
        FileNotFoundError: if nothing is there.
        ValueError: naming the key or file, for a source that is missing or does not fit.
    """
    if not config.source:
        raise ValueError(
            "upstream.source is not set: with upstream.kind=wavlm it is a file, folder or hub id"
        )
    try:
        path = local_path(config.source, download=config.download)
    except FileNotFoundError as error:
        raise FileNotFoundError(_missing(config.source, error)) from error
    # True leaves it to the file: a model that was trained without masks has none.
    masked = None if config.masked_group_norm else False
    model = load_wavlm(path, masked_group_norm=masked)
    return frozen_wavlm(model, config), source_sha256(path)


def _missing(source: str, error: FileNotFoundError) -> str:
    """What is not there, and how to get it."""
    if "hub id" in str(error):
        return (
            f"the hub id {source} is not on this machine: the same command with "
            f"upstream.download=true fetches it ({extras('hf')})"
        )
    made_here = f"; {command()} pretrain makes this one" if "runs/pretrain" in source else ""
    return f"{error}: say UPSTREAM=FILE, or upstream.source=FILE{made_here}"


def frozen_wavlm(model: WavLM, config: UpstreamConfig) -> Frozen:
    """A model, frozen; rows of a batch run in groups unless features depend on the batch."""
    return Frozen(
        WavLMUpstream(model), precision=config.precision, grouped=config.masked_group_norm
    )


def depends_on(config: UpstreamConfig) -> str:
    """Nothing beside the weights."""
    return ""


def recognizes(path: Path) -> bool:
    """Nothing by itself: what no other kind recognizes is read as a WavLM."""
    return False


class WavLMUpstream(nn.Module):
    """All layers of a WavLM, or one.

    Args:
        model: The encoder.
        layer: The only one that is given; "last" for the last one after the final norm; None for
            all.
    """

    stride = HOP

    def __init__(self, model: WavLM, *, layer: int | str | None = None):
        super().__init__()
        self.model, self.layer = model, layer
        self.dim = model.config.dim
        self.num_layers = model.config.num_layers + 1 if layer is None else 1

    def num_frames(self, num_samples: int) -> int:
        """Frames as the convolutions count them."""
        return conv_lengths(num_samples)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> num_layers of (B, F, D), lengths (B,)."""
        found = self.model(waveforms, lengths)
        if self.layer is None:
            return Features(found.layers, found.lengths)
        only = found.output if self.layer == "last" else found.layers[int(self.layer)]
        return Features((only,), found.lengths)
