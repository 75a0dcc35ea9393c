# SPDX-License-Identifier: Apache-2.0
"""The sizes of WavLM, and every switch where released code and good practice part.

Values: stored configurations of the released checkpoints (microsoft/unilm 768a3c8, wavlm/), and for
what Large's lack, the training configuration of UniSpeech-SAT Large (microsoft/UniSpeech 40d3227).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from wavlm_lightning.fields import Checked, number, whole
from wavlm_lightning.lengths import KERNELS, STRIDES
from wavlm_lightning.model.earlier_names import current_keys

Attention = Literal["auto", "eager", "sdpa", "by_head", "chunked"]
COMPILABLE = ("auto", "sdpa")  # back-ends that torch.compile can read
# Fields that weights were trained for; another value needs other weights.
TRAINED_FOR = (
    "num_layers", "dim", "ffn_dim", "num_heads", "feature_encoder_dim", "feature_encoder_norm",
    "norm_first", "num_buckets", "max_distance", "position_kernel", "position_groups",
    "position_bias",
)  # fmt: skip
SIZES = ("mini", "base", "base_plus", "large")


@dataclass(frozen=True, kw_only=True)
class WavLMConfig(Checked):
    """Shape and behaviour of one WavLM; stored in its checkpoints.

    Args:
        size: name of the preset that this configuration started from.
        num_layers: transformer blocks.
        dim: width of the transformer.
        ffn_dim: inner width of the feed-forward part.
        num_heads: attention heads; `dim` must be a multiple of it.
        feature_encoder_dim: channels of the feature encoder.
        feature_encoder_norm: "group" normalises the first convolution over time (Base), "layer"
            every convolution over channels (Large).
        masked_group_norm: leave padding out of the statistics of the group norm, so that a frame
            does not depend on the batch. False: as the released weights were trained.
        norm_first: layer norm before attention and feed-forward (Large) or after (Base).
        normalize_waveform: give every utterance zero mean and unit variance.
        last_layer_normed: with `norm_first`, the last of `layers` is taken after the final layer
            norm, as s3prl does and SUPERB's numbers were made. False: before it, as transformers.
        feature_encoder_grad_scale: factor on the gradient that enters it; 0 freezes it.
        dropout: on residual branches and after the position embedding.
        attention_dropout: on attention weights.
        activation_dropout: inside the feed-forward part.
        input_dropout: on projected features, before the encoder.
        layer_drop: probability that training skips a block.
        layer_drop_official: a dropped first block takes the position bias of the whole network
            with it, as in the released code. False: the bias survives.
        block_padding: count valid frames as the released code does, up to one more than the
            convolutions give.
        position_bias: "gated" is WavLM's relative position bias, scaled by a gate; "none" leaves
            both out, which makes the model a HuBERT.
        num_buckets: rows of the relative position table.
        max_distance: frames beyond which all distances share a bucket.
        position_kernel: taps of the convolutional position embedding, in frames.
        position_groups: its groups.
        attention: back-end; "auto" is the fastest one for device, length and number format, see
            `wavlm_lightning/model/attention.py`.
    """

    size: str
    num_layers: int = whole(1, 1000)
    dim: int = whole(1, 65536)
    ffn_dim: int = whole(1, 10**6)
    num_heads: int = whole(1, 4096)
    feature_encoder_dim: int = whole(1, 65536)
    feature_encoder_norm: Literal["group", "layer"]
    norm_first: bool
    normalize_waveform: bool
    feature_encoder_grad_scale: float = number(0, 1000)
    dropout: float = number(0, 1, below=True)
    attention_dropout: float = number(0, 1, below=True)
    activation_dropout: float = number(0, 1, below=True)
    input_dropout: float = number(0, 1, below=True)
    layer_drop: float = number(0, 1, below=True)
    num_buckets: int = whole(4, 10**6)
    max_distance: int = whole(2, 10**6)
    position_kernel: int = whole(1, 10**5)
    position_groups: int = whole(1, 65536)
    masked_group_norm: bool = True
    last_layer_normed: bool = True
    layer_drop_official: bool = False
    block_padding: bool = False
    attention: Attention = "auto"
    position_bias: Literal["gated", "none"] = "gated"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim % self.num_heads:
            raise ValueError(
                f"model.dim={self.dim} is not a multiple of model.num_heads={self.num_heads}"
            )
        if self.dim % self.position_groups:
            raise ValueError(
                f"model.dim={self.dim} is not a multiple of "
                f"model.position_groups={self.position_groups}"
            )
        if self.num_buckets % 4:
            raise ValueError(f"model.num_buckets={self.num_buckets} is not a multiple of 4")
        if self.max_distance <= self.num_buckets // 4:  # so many have a bucket of their own
            raise ValueError(
                f"model.max_distance={self.max_distance} must be above a quarter of "
                f"model.num_buckets={self.num_buckets}"
            )

    @property
    def conv_layers(self) -> list[tuple[int, int, int]]:
        """(channels, kernel, stride) of each convolution of the feature encoder."""
        return [(self.feature_encoder_dim, k, s) for k, s in zip(KERNELS, STRIDES, strict=True)]

    @classmethod
    def preset(cls, size: str) -> "WavLMConfig":
        """The configuration of one of the names in `SIZES`."""
        if size not in SIZES:
            raise ValueError(f"model.size={size} is not one of {', '.join(SIZES)}")
        config: WavLMConfig = getattr(cls, size)()
        return config

    @classmethod
    def base(cls) -> "WavLMConfig":
        """12 layers of width 768: 94.4 million parameters."""
        return cls(
            size="base",
            num_layers=12,
            dim=768,
            ffn_dim=3072,
            num_heads=12,
            feature_encoder_dim=512,
            feature_encoder_norm="group",
            norm_first=False,
            normalize_waveform=False,
            feature_encoder_grad_scale=0.1,
            dropout=0.1,
            attention_dropout=0.1,
            activation_dropout=0.0,
            input_dropout=0.1,
            layer_drop=0.05,
            num_buckets=320,
            max_distance=800,
            position_kernel=128,
            position_groups=16,
        )

    @classmethod
    def base_plus(cls) -> "WavLMConfig":
        """Base trained on more data; its dropouts are assumed to be Base's (UNVERIFIED)."""
        return dataclasses.replace(cls.base(), size="base_plus")

    @classmethod
    def large(cls) -> "WavLMConfig":
        """24 layers of width 1024: 315.5 million parameters."""
        return dataclasses.replace(
            cls.base(),
            size="large",
            num_layers=24,
            dim=1024,
            ffn_dim=4096,
            num_heads=16,
            feature_encoder_norm="layer",
            norm_first=True,
            normalize_waveform=True,
            feature_encoder_grad_scale=1.0,
            dropout=0.0,
            attention_dropout=0.0,
            input_dropout=0.0,
            layer_drop=0.0,
        )

    @classmethod
    def mini(cls) -> "WavLMConfig":
        """Base's mechanisms at a size that two processor cores train in minutes; ours."""
        return dataclasses.replace(
            cls.base(),
            size="mini",
            num_layers=4,
            dim=192,
            ffn_dim=768,
            num_heads=3,
            feature_encoder_dim=64,
            feature_encoder_grad_scale=1.0,
            dropout=0.05,
            attention_dropout=0.0,
            input_dropout=0.05,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for YAML and for checkpoints."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "WavLMConfig":
        """The inverse of `to_dict`; ValueError names keys that do not belong or are missing."""
        values = current_keys(values)
        fields = {f.name: f for f in dataclasses.fields(cls)}
        required = {n for n, f in fields.items() if f.default is dataclasses.MISSING}
        unknown, missing = set(values) - set(fields), required - set(values)
        if unknown or missing:
            raise ValueError(
                f"model configuration: unknown keys {sorted(unknown)}, missing {sorted(missing)}"
            )
        return cls(**values)
