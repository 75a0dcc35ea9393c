# SPDX-License-Identifier: Apache-2.0
"""Section `upstream` of a configuration."""

from dataclasses import dataclass
from typing import Literal

from wavlm_lightning.downstream.features.kinds import kind_names
from wavlm_lightning.fields import Checked, seed


@dataclass(frozen=True, kw_only=True)
class UpstreamConfig(Checked):
    """Which upstream, and where it lies.

    Args:
        kind: a file of downstream/upstreams: wavlm (a checkpoint or folder of any layout),
            transformers (HuBERT, wav2vec 2.0, Whisper's encoder and others), torchaudio (its
            bundles), python (a class of your own), fbank, or random: a WavLM that was never
            trained, as a control.
        source: file, folder or hub id; name of a bundle; module:Class of your own.
        size: of a random WavLM.
        seed: of a random WavLM's weights.
        masked_group_norm: Base's group norm leaves padding out; false is the released behaviour.
        precision: of the frozen forward pass; auto is bfloat16 where the device computes in it.
        download: fetch a hub id that is not on this machine yet.
        cmvn: filter banks have zero mean and unit variance over each utterance. Heads that average
            over time learn nothing from those: the mean is zero.
    """

    kind: str
    source: str | None = None
    size: str = "mini"
    seed: int = seed(default=0)
    masked_group_norm: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    download: bool = False
    cmvn: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in kind_names():
            raise ValueError(
                f"upstream.kind must be one of {', '.join(kind_names())} (got {self.kind})"
            )
