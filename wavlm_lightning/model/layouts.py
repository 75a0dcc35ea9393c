# SPDX-License-Identifier: Apache-2.0
"""Checkpoint layouts: ours, the released one, transformers', torchaudio's.

All four hold the same tensors under other names; only torchaudio joins three projections into one,
and has no mask vector. Conversions are strict: an entry of another name is an error that names it.

Names: microsoft/unilm 768a3c8 (wavlm/), transformers 5.23, torchaudio 2.11.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.wavlm import WavLM

State = dict[str, Tensor]

# Our name, the released name, transformers' name; {i} is a layer number. The order is the files'.
_NAMES = [
    ("mask_vector", "mask_emb", "masked_spec_embed"),
    ("projection_norm.", "layer_norm.", "feature_projection.layer_norm."),
    ("projection.", "post_extract_proj.", "feature_projection.projection."),
    (
        "frontend.layers.{i}.conv.",
        "feature_extractor.conv_layers.{i}.0.",
        "feature_extractor.conv_layers.{i}.conv.",
    ),
    (
        "frontend.layers.{i}.norm.",
        "feature_extractor.conv_layers.{i}.2.",
        "feature_extractor.conv_layers.{i}.layer_norm.",
    ),
    ("encoder.position.bias", "encoder.pos_conv.0.bias", "encoder.pos_conv_embed.conv.bias"),
    (
        "encoder.position.weight_g",
        "encoder.pos_conv.0.weight_g",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    ),
    (
        "encoder.position.weight_v",
        "encoder.pos_conv.0.weight_v",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
    ),
    ("encoder.norm.", "encoder.layer_norm.", "encoder.layer_norm."),
    (
        "encoder.position_bias.weight",
        "encoder.layers.0.self_attn.relative_attention_bias.weight",
        "encoder.layers.0.attention.rel_attn_embed.weight",
    ),
    *(
        (
            f"encoder.layers.{{i}}.attention.{ours}.",
            f"encoder.layers.{{i}}.self_attn.{theirs}_proj.",
            f"encoder.layers.{{i}}.attention.{theirs}_proj.",
        )
        for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "out"))
    ),
    (
        "encoder.layers.{i}.attention.gate.",
        "encoder.layers.{i}.self_attn.grep_linear.",
        "encoder.layers.{i}.attention.gru_rel_pos_linear.",
    ),
    (
        "encoder.layers.{i}.attention.gate_scale",
        "encoder.layers.{i}.self_attn.grep_a",
        "encoder.layers.{i}.attention.gru_rel_pos_const",
    ),
    (
        "encoder.layers.{i}.attention_norm.",
        "encoder.layers.{i}.self_attn_layer_norm.",
        "encoder.layers.{i}.layer_norm.",
    ),
    (
        "encoder.layers.{i}.feed_forward_in.",
        "encoder.layers.{i}.fc1.",
        "encoder.layers.{i}.feed_forward.intermediate_dense.",
    ),
    (
        "encoder.layers.{i}.feed_forward_out.",
        "encoder.layers.{i}.fc2.",
        "encoder.layers.{i}.feed_forward.output_dense.",
    ),
    (
        "encoder.layers.{i}.feed_forward_norm.",
        "encoder.layers.{i}.final_layer_norm.",
        "encoder.layers.{i}.final_layer_norm.",
    ),
]
_LAYOUTS = {"ours": 0, "released": 1, "transformers": 2}
_FRONTEND_NORM = re.compile(r"(feature_extractor\.conv_layers\.\d+\.2\.)(?:1\.)?(weight|bias)")


# Weight norm of torch before 2.1, as files of that time have it.
_OLD_WEIGHT_NORM = {
    "pos_conv_embed.conv.weight_g": "pos_conv_embed.conv.parametrizations.weight.original0",
    "pos_conv_embed.conv.weight_v": "pos_conv_embed.conv.parametrizations.weight.original1",
}
_TORCHAUDIO = "encoder.transformer."  # what its names begin with, and no other layout's


def _rules(source: str, target: str) -> list[tuple[re.Pattern[str], str]]:
    rules = []
    for names in _NAMES:
        old, new = names[_LAYOUTS[source]], names[_LAYOUTS[target]]
        pattern = re.escape(old).replace(r"\{i\}", r"(\d+)")
        end = "$" if not old.endswith(".") else r"(?P<leaf>weight|bias)$"
        replacement = new.replace("{i}", r"\1") + (r"\g<leaf>" if old.endswith(".") else "")
        rules.append((re.compile("^" + pattern + end), replacement))
    return rules


def rename(state: Mapping[str, Tensor], source: str, target: str) -> State:
    """A state dict under the names of another layout ("ours", "released" or "transformers").

    Raises:
        ValueError: naming the entries that the source layout does not know.
    """
    rules, renamed, unknown = _rules(source, target), {}, []
    for name, tensor in state.items():
        # Large's front end wraps its norms in two transposes: "2.1.weight" for "2.weight".
        plain = _FRONTEND_NORM.sub(r"\1\2", name) if source == "released" else name
        if source == "transformers":
            plain = _new_weight_norm(plain)
        for pattern, replacement in rules:
            if pattern.match(plain):
                renamed[pattern.sub(replacement, plain)] = tensor
                break
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f"not a WavLM in the {source} layout: unknown entries {some(unknown)}")
    return renamed


def _new_weight_norm(name: str) -> str:
    for old, new in _OLD_WEIGHT_NORM.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def to_released(model: WavLM) -> State:
    """The state dict that the released inference class loads (`model` of its checkpoint files)."""
    state = rename(model.state_dict(), "ours", "released")
    if model.config.frontend_norm == "layer":
        state = {_FRONTEND_NORM.sub(r"\g<1>1.\2", n): t for n, t in state.items()}
    return state


def released_cfg(config: WavLMConfig) -> dict[str, Any]:
    """The `cfg` of a released checkpoint file for this configuration."""
    conv = f"[({config.frontend_dim},10,5)] + [({config.frontend_dim},3,2)] * 4"
    return {
        "extractor_mode": "layer_norm" if config.frontend_norm == "layer" else "default",
        "encoder_layers": config.num_layers,
        "encoder_embed_dim": config.dim,
        "encoder_ffn_embed_dim": config.ffn_dim,
        "encoder_attention_heads": config.num_heads,
        "activation_fn": "gelu",
        "layer_norm_first": config.norm_first,
        "conv_feature_layers": conv + f" + [({config.frontend_dim},2,2)] * 2",
        "conv_bias": False,
        "feature_grad_mult": config.frontend_grad_scale,
        "normalize": config.normalize_waveform,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "encoder_layerdrop": config.layer_drop,
        "dropout_input": config.input_dropout,
        "dropout_features": 0.0,
        "mask_length": 10,
        "mask_prob": 0.8,
        "mask_selection": "static",
        "mask_other": 0,
        "no_mask_overlap": False,
        "mask_min_space": 1,
        "conv_pos": config.position_kernel,
        "conv_pos_groups": config.position_groups,
        "relative_position_embedding": True,
        "num_buckets": config.num_buckets,
        "max_distance": config.max_distance,
        "gru_rel_pos": True,
    }


_CFG_KEYS = (
    "extractor_mode", "encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim",
    "encoder_attention_heads", "layer_norm_first", "feature_grad_mult", "dropout",
    "attention_dropout", "activation_dropout", "dropout_input", "encoder_layerdrop", "num_buckets",
    "max_distance", "conv_pos", "conv_pos_groups",
)  # fmt: skip


def config_from_released(cfg: Mapping[str, Any]) -> WavLMConfig:
    """The configuration in the `cfg` of a released checkpoint file.

    Raises:
        ValueError: for a network that WavLM's released class allows and this one does not have.
    """
    wanted = {"relative_position_embedding": True, "gru_rel_pos": True, "conv_bias": False}
    for key, value in wanted.items():
        if cfg.get(key, value) != value:
            raise ValueError(f"released cfg: {key}={cfg[key]} is not supported, {value} is")
    keys = [name for name in _CFG_KEYS if name not in cfg]
    if keys:
        raise ValueError(f"released cfg: missing {', '.join(keys)}")
    channels = int(re.findall(r"\((\d+)", str(cfg.get("conv_feature_layers", "(512")))[0])
    group = cfg["extractor_mode"] == "default"
    return WavLMConfig(
        size="released",
        num_layers=cfg["encoder_layers"],
        dim=cfg["encoder_embed_dim"],
        ffn_dim=cfg["encoder_ffn_embed_dim"],
        num_heads=cfg["encoder_attention_heads"],
        frontend_dim=channels,
        frontend_norm="group" if group else "layer",
        # Released Base weights were trained with padding-blind statistics on un-padded batches.
        masked_group_norm=True,
        norm_first=cfg["layer_norm_first"],
        normalize_waveform=cfg.get("normalize", False),  # Base's files lack the key
        frontend_grad_scale=cfg["feature_grad_mult"],
        dropout=cfg["dropout"],
        attention_dropout=cfg["attention_dropout"],
        activation_dropout=cfg["activation_dropout"],
        input_dropout=cfg["dropout_input"],
        layer_drop=cfg["encoder_layerdrop"],
        num_buckets=cfg["num_buckets"],
        max_distance=cfg["max_distance"],
        position_kernel=cfg["conv_pos"],
        position_groups=cfg["conv_pos_groups"],
    )


def to_transformers(model: WavLM) -> State:
    """The state dict of transformers' `WavLMModel`."""
    return rename(model.state_dict(), "ours", "transformers")


def transformers_config(config: WavLMConfig) -> dict[str, Any]:
    """The content of transformers' `config.json` for this configuration."""
    stable = config.norm_first
    return {
        "model_type": "wavlm",
        "architectures": ["WavLMModel"],
        "hidden_size": config.dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.ffn_dim,
        "conv_dim": [d for d, _, _ in config.conv_layers],
        "conv_kernel": [k for _, k, _ in config.conv_layers],
        "conv_stride": [s for _, _, s in config.conv_layers],
        "conv_bias": False,
        "feat_extract_norm": config.frontend_norm,
        "do_stable_layer_norm": stable,
        "tie_last_hidden_states": stable and config.last_layer_normed,
        "num_conv_pos_embeddings": config.position_kernel,
        "num_conv_pos_embedding_groups": config.position_groups,
        "num_buckets": config.num_buckets,
        "max_bucket_distance": config.max_distance,
        "hidden_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "feat_proj_dropout": config.input_dropout,
        "layerdrop": config.layer_drop,
        "mask_time_prob": 0.8,
        "mask_time_length": 10,
        "mask_feature_min_masks": 0,
    }


_JSON_KEYS = (
    "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "conv_dim",
    "feat_extract_norm", "do_stable_layer_norm", "hidden_dropout", "attention_dropout",
    "activation_dropout", "feat_proj_dropout", "layerdrop", "num_buckets", "max_bucket_distance",
    "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
)  # fmt: skip


def config_from_transformers(
    values: Mapping[str, Any], *, normalize: bool | None = None
) -> WavLMConfig:
    """The configuration in transformers' `config.json`.

    Args:
        values: of that file.
        normalize: `do_normalize` of the feature extractor's file; without one it is taken from
            `do_stable_layer_norm`, as all published sizes have it.

    Raises:
        ValueError: for another kind of model, or naming the keys that are missing.
    """
    if values.get("model_type") != "wavlm":
        raise ValueError(f"model_type is {values.get('model_type')}, a wavlm is wanted")
    if keys := [name for name in _JSON_KEYS if name not in values]:
        raise ValueError(f"config.json of transformers: missing {', '.join(keys)}")
    stable = values["do_stable_layer_norm"]
    return WavLMConfig(
        size="transformers",
        num_layers=values["num_hidden_layers"],
        dim=values["hidden_size"],
        ffn_dim=values["intermediate_size"],
        num_heads=values["num_attention_heads"],
        frontend_dim=values["conv_dim"][0],
        frontend_norm=values["feat_extract_norm"],
        norm_first=stable,
        normalize_waveform=stable if normalize is None else normalize,
        frontend_grad_scale=1.0,
        dropout=values["hidden_dropout"],
        attention_dropout=values["attention_dropout"],
        activation_dropout=values["activation_dropout"],
        input_dropout=values["feat_proj_dropout"],
        layer_drop=values["layerdrop"],
        num_buckets=values["num_buckets"],
        max_distance=values["max_bucket_distance"],
        position_kernel=values["num_conv_pos_embeddings"],
        position_groups=values["num_conv_pos_embedding_groups"],
    )


def to_torchaudio(model: WavLM) -> State:
    """The state dict of `torchaudio.models.wavlm_model`, which has no mask vector."""
    state: State = {}
    for name, tensor in to_transformers(model).items():
        if name == "masked_spec_embed":
            continue
        if name.startswith("encoder."):
            name = "encoder.transformer." + name.removeprefix("encoder.")
        elif name.startswith("feature_projection."):
            name = "encoder." + name
        name = name.replace(".attention.out_proj.", ".attention.attention.out_proj.")
        state[name] = tensor
    for layer in range(model.config.num_layers):
        prefix = f"encoder.transformer.layers.{layer}.attention."
        for leaf in ("weight", "bias"):
            parts = [state.pop(f"{prefix}{p}_proj.{leaf}") for p in "qkv"]
            state[f"{prefix}attention.in_proj_{leaf}"] = torch.cat(parts)
    return state


def torchaudio_arguments(config: WavLMConfig) -> dict[str, Any]:
    """What `torchaudio.models.wavlm_model` is called with for this configuration."""
    return {
        "extractor_mode": "group_norm" if config.frontend_norm == "group" else "layer_norm",
        "extractor_conv_layer_config": [list(layer) for layer in config.conv_layers],
        "extractor_conv_bias": False,
        "encoder_embed_dim": config.dim,
        "encoder_projection_dropout": config.input_dropout,
        "encoder_pos_conv_kernel": config.position_kernel,
        "encoder_pos_conv_groups": config.position_groups,
        "encoder_num_layers": config.num_layers,
        "encoder_num_heads": config.num_heads,
        "encoder_num_buckets": config.num_buckets,
        "encoder_max_distance": config.max_distance,
        "encoder_attention_dropout": config.attention_dropout,
        "encoder_ff_interm_features": config.ffn_dim,
        "encoder_ff_interm_dropout": config.activation_dropout,
        "encoder_dropout": config.dropout,
        "encoder_layer_norm_first": config.norm_first,
        "encoder_layer_drop": config.layer_drop,
        "aux_num_out": None,
    }


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


def is_torchaudio(state: Mapping[str, Any]) -> bool:
    """Whether these are the names of torchaudio's WavLM."""
    return any(name.startswith(_TORCHAUDIO) for name in state)


def from_torchaudio(state: Mapping[str, Tensor]) -> State:
    """Our names for those of `torchaudio.models.wavlm_model`; there is no mask vector among them.

    Raises:
        ValueError: naming the entries that are unknown.
    """
    renamed: State = {}
    for name, tensor in state.items():
        plain = name.replace(".attention.attention.out_proj.", ".attention.out_proj.")
        if plain.startswith(_TORCHAUDIO):
            plain = "encoder." + plain.removeprefix(_TORCHAUDIO)
        elif plain.startswith("encoder.feature_projection."):
            plain = plain.removeprefix("encoder.")
        before, joined, leaf = plain.partition("attention.in_proj_")
        if not joined:
            renamed[plain] = tensor
            continue
        for part, own in zip("qkv", tensor.chunk(3), strict=True):
            renamed[f"{before}{part}_proj.{leaf}"] = own.clone()
    return rename(renamed, "transformers", "ours")


def config_from_torchaudio(state: Mapping[str, Tensor]) -> WavLMConfig:
    """The configuration that fits the shapes; what has none is as in the published sizes.

    Args:
        state: under our names.

    Raises:
        ValueError: if an entry is missing from which a size is taken.
    """
    try:
        channels = state["frontend.layers.0.conv.weight"].shape[0]
        dim, groups_dim, kernel = state["encoder.position.weight_v"].shape
        num_buckets, num_heads = state["encoder.position_bias.weight"].shape
        ffn_dim = state["encoder.layers.0.feed_forward_in.weight"].shape[0]
    except KeyError as error:
        raise ValueError(f"no WavLM of torchaudio: it has no {error.args[0]}") from error
    layers = {name.split(".")[2] for name in state if name.startswith("encoder.layers.")}
    large = "frontend.layers.1.norm.weight" in state
    return dataclasses.replace(
        WavLMConfig.preset("large" if large else "base"),
        size="torchaudio",
        num_layers=len(layers),
        dim=dim,
        ffn_dim=ffn_dim,
        num_heads=num_heads,
        frontend_dim=channels,
        num_buckets=num_buckets,
        position_kernel=kernel,
        position_groups=dim // groups_dim,
    )
