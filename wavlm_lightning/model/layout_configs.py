# SPDX-License-Identifier: Apache-2.0
"""Configurations as each layout stores them: the released `cfg`, transformers' files, torchaudio's.

Keys: microsoft/unilm 768a3c8 (wavlm/), transformers 5.23, torchaudio 2.11.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from wavlm_lightning.lengths import KERNELS, SAMPLE_RATE, STRIDES
from wavlm_lightning.model.config import TRAINED_FOR, WavLMConfig

# Our field, and its key in a released `cfg`, in transformers' config.json, and among the arguments
# of torchaudio's `wavlm_model`: those whose values are the same everywhere.
_FIELDS = [
    ("num_layers", "encoder_layers", "num_hidden_layers", "encoder_num_layers"),
    ("dim", "encoder_embed_dim", "hidden_size", "encoder_embed_dim"),
    ("ffn_dim", "encoder_ffn_embed_dim", "intermediate_size", "encoder_ff_interm_features"),
    ("num_heads", "encoder_attention_heads", "num_attention_heads", "encoder_num_heads"),
    ("norm_first", "layer_norm_first", "do_stable_layer_norm", "encoder_layer_norm_first"),
    ("dropout", "dropout", "hidden_dropout", "encoder_dropout"),
    (
        "attention_dropout",
        "attention_dropout",
        "attention_dropout",
        "encoder_attention_dropout",
    ),
    (
        "activation_dropout",
        "activation_dropout",
        "activation_dropout",
        "encoder_ff_interm_dropout",
    ),
    ("input_dropout", "dropout_input", "feat_proj_dropout", "encoder_projection_dropout"),
    ("layer_drop", "encoder_layerdrop", "layerdrop", "encoder_layer_drop"),
    ("num_buckets", "num_buckets", "num_buckets", "encoder_num_buckets"),
    ("max_distance", "max_distance", "max_bucket_distance", "encoder_max_distance"),
    ("position_kernel", "conv_pos", "num_conv_pos_embeddings", "encoder_pos_conv_kernel"),
    (
        "position_groups",
        "conv_pos_groups",
        "num_conv_pos_embedding_groups",
        "encoder_pos_conv_groups",
    ),
]
_RELEASED, _TRANSFORMERS, _TORCHAUDIO = 1, 2, 3
_CONV = ", ".join(f"({k},{s})" for k, s in zip(KERNELS, STRIDES, strict=True))


def _written(config: WavLMConfig, layout: int) -> dict[str, Any]:
    return {names[layout]: getattr(config, names[0]) for names in _FIELDS}


def _read(values: Mapping[str, Any], layout: int, *others: str, where: str) -> dict[str, Any]:
    """Our fields; `others` must be there too."""
    keys = {names[0]: names[layout] for names in _FIELDS}
    if missing := [key for key in (*keys.values(), *others) if key not in values]:
        raise ValueError(f"{where}: missing {', '.join(missing)}")
    return {ours: values[key] for ours, key in keys.items()}


def _check(values: Mapping[str, Any], wanted: Mapping[str, Any], *, where: str) -> None:
    """Refuse a network that the layout can describe and this one is not."""
    for key, value in wanted.items():
        if values.get(key, value) != value:
            raise ValueError(f"{where}: {key}={values[key]} is not supported, {value} is")


def released_cfg(config: WavLMConfig) -> dict[str, Any]:
    """The `cfg` of a released checkpoint file for this configuration."""
    return {
        **_written(config, _RELEASED),
        "extractor_mode": "layer_norm" if config.feature_encoder_norm == "layer" else "default",
        "activation_fn": "gelu",
        "conv_feature_layers": str(config.conv_layers),
        "conv_bias": False,
        "feature_grad_mult": config.feature_encoder_grad_scale,
        "normalize": config.normalize_waveform,
        "dropout_features": 0.0,
        "mask_length": 10,
        "mask_prob": 0.8,
        "mask_selection": "static",
        "mask_other": 0,
        "no_mask_overlap": False,
        "mask_min_space": 1,
        "relative_position_embedding": True,
        "gru_rel_pos": True,
    }


def config_from_released(cfg: Mapping[str, Any]) -> WavLMConfig:
    """The configuration in the `cfg` of a released checkpoint file.

    Raises:
        ValueError: naming the keys that are missing, or for a network that the released class
            allows and this one is not.
    """
    where = "released cfg"
    wanted = {"relative_position_embedding": True, "gru_rel_pos": True, "conv_bias": False}
    _check(cfg, wanted | {"activation_fn": "gelu"}, where=where)
    own = ("extractor_mode", "feature_grad_mult", "conv_feature_layers")
    fields = _read(cfg, _RELEASED, *own, where=where)
    return _named(
        WavLMConfig(
            size="released",
            feature_encoder_dim=_channels(str(cfg["conv_feature_layers"])),
            feature_encoder_norm="group" if cfg["extractor_mode"] == "default" else "layer",
            normalize_waveform=cfg.get("normalize", False),  # Base's files lack the key
            feature_encoder_grad_scale=cfg["feature_grad_mult"],
            **fields,
        )
    )


def _channels(text: str) -> int:
    """Channels of convolutions written as "[(512,10,5)] + [(512,3,2)] * 4 + ..."; never run."""
    layers = []
    for part in re.findall(r"\[([^\]]*)\](?:\s*\*\s*(\d+))?", text):
        numbers = [int(n) for n in re.findall(r"\d+", part[0])]
        layers += list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)) * int(
            part[1] or 1
        )
    channels = {layer[0] for layer in layers}
    if [layer[1:] for layer in layers] != list(zip(KERNELS, STRIDES, strict=True)):
        raise ValueError(
            f"released cfg: conv_feature_layers={text} is not supported, kernels and strides "
            f"{_CONV} are"
        )
    if len(channels) != 1:
        raise ValueError(f"released cfg: conv_feature_layers={text} has layers of unequal width")
    return channels.pop()


def transformers_config(config: WavLMConfig) -> dict[str, Any]:
    """The content of transformers' `config.json` for this configuration."""
    return {
        **_written(config, _TRANSFORMERS),
        "model_type": "wavlm",
        "architectures": ["WavLMModel"],
        "conv_dim": [d for d, _, _ in config.conv_layers],
        "conv_kernel": [k for _, k, _ in config.conv_layers],
        "conv_stride": [s for _, _, s in config.conv_layers],
        "conv_bias": False,
        "feat_extract_norm": config.feature_encoder_norm,
        "tie_last_hidden_states": config.norm_first and config.last_layer_normed,
        "mask_time_prob": 0.8,
        "mask_time_length": 10,
        "mask_feature_min_masks": 0,
    }


def config_from_transformers(
    values: Mapping[str, Any], *, normalize: bool | None = None
) -> WavLMConfig:
    """The configuration in transformers' `config.json`.

    Args:
        values: of that file.
        normalize: `do_normalize` of the feature extractor's file; without one it is taken from
            `do_stable_layer_norm`, as all published sizes have it.

    Raises:
        ValueError: naming the keys that are missing, or for another kind of model.
    """
    where = "config.json of transformers"
    if values.get("model_type") != "wavlm":
        raise ValueError(f"model_type must be wavlm (got {values.get('model_type')})")
    wanted = {"conv_kernel": list(KERNELS), "conv_stride": list(STRIDES), "conv_bias": False}
    wanted |= {"hidden_act": "gelu", "feat_extract_activation": "gelu"}
    _check(values, wanted, where=where)
    fields = _read(values, _TRANSFORMERS, "conv_dim", "feat_extract_norm", where=where)
    return _named(
        WavLMConfig(
            size="transformers",
            feature_encoder_dim=values["conv_dim"][0],
            feature_encoder_norm=values["feat_extract_norm"],
            normalize_waveform=fields["norm_first"] if normalize is None else normalize,
            # The file does not say it, and the published sizes do.
            feature_encoder_grad_scale=_published(
                large=fields["norm_first"]
            ).feature_encoder_grad_scale,
            **fields,
        )
    )


def _named(config: WavLMConfig) -> WavLMConfig:
    """Configuration under the name of a published size, if it has the shape of one."""
    for size in ("base", "large"):
        preset = WavLMConfig.preset(size)
        if all(getattr(config, name) == getattr(preset, name) for name in TRAINED_FOR):
            return dataclasses.replace(config, size=size)
    return config


def _published(*, large: bool) -> WavLMConfig:
    """What is taken where a layout is silent."""
    return WavLMConfig.preset("large" if large else "base")


def feature_extractor(config: WavLMConfig) -> dict[str, Any]:
    """The content of transformers' `preprocessor_config.json`."""
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": SAMPLE_RATE,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": config.normalize_waveform,
        "return_attention_mask": True,
    }


def torchaudio_arguments(config: WavLMConfig) -> dict[str, Any]:
    """What `torchaudio.models.wavlm_model` is called with for this configuration."""
    return {
        **_written(config, _TORCHAUDIO),
        "extractor_mode": "group_norm" if config.feature_encoder_norm == "group" else "layer_norm",
        "extractor_conv_layer_config": [list(layer) for layer in config.conv_layers],
        "extractor_conv_bias": False,
        "aux_num_out": None,
    }


def config_from_torchaudio(state: Mapping[str, Tensor]) -> WavLMConfig:
    """The configuration that fits the shapes; what has none is as in the published sizes.

    Args:
        state: under our names.

    Raises:
        ValueError: if an entry is missing from which a size is taken.
    """
    if (bias := state.get("encoder.position_bias.weight")) is None:
        raise ValueError("no WavLM of torchaudio: it has no encoder.position_bias.weight")
    num_buckets, num_heads = bias.shape
    config = config_from_shapes(state, num_heads=num_heads, size="torchaudio")
    return dataclasses.replace(config, num_buckets=num_buckets)


def config_from_shapes(state: Mapping[str, Tensor], *, num_heads: int, size: str) -> WavLMConfig:
    """The configuration that fits all shapes; what has none is as in the published sizes.

    Args:
        state: under our names.
        num_heads: of attention.
        size: what the configuration is called.

    Raises:
        ValueError: if an entry is missing from which a size is taken.
    """
    try:
        channels = state["feature_encoder.layers.0.conv.weight"].shape[0]
        dim, groups_dim, kernel = state["encoder.position.weight_v"].shape
        ffn_dim = state["encoder.layers.0.feed_forward_in.weight"].shape[0]
    except KeyError as error:
        raise ValueError(f"no model of {size}: it has no {error.args[0]}") from error
    layers = {name.split(".")[2] for name in state if name.startswith("encoder.layers.")}
    large = "feature_encoder.layers.1.norm.weight" in state
    return dataclasses.replace(
        _published(large=large),
        size=size,
        num_layers=len(layers),
        dim=dim,
        ffn_dim=ffn_dim,
        num_heads=num_heads,
        feature_encoder_dim=channels,
        position_kernel=kernel,
        position_groups=dim // groups_dim,
    )
