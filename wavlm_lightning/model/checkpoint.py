# SPDX-License-Identifier: Apache-2.0
"""Checkpoint layouts: ours, the released one, transformers', torchaudio's; and reading them.

All four hold the same tensors under other names; only torchaudio joins three projections into one.
Conversions are strict: a tensor that is missing or left over is an error that names it.

Names: microsoft/unilm 768a3c8 (wavlm/), transformers 5.23, torchaudio 2.11.
"""

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
        for pattern, replacement in rules:
            if pattern.match(plain):
                renamed[pattern.sub(replacement, plain)] = tensor
                break
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f"not a WavLM in the {source} layout: unknown entries {_some(unknown)}")
    return renamed


def _some(names: list[str]) -> str:
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


def config_from_released(cfg: Mapping[str, Any]) -> WavLMConfig:
    """The configuration in the `cfg` of a released checkpoint file.

    Raises:
        ValueError: for a network that WavLM's released class allows and this one does not have.
    """
    wanted = {"relative_position_embedding": True, "gru_rel_pos": True, "conv_bias": False}
    for key, value in wanted.items():
        if cfg.get(key, value) != value:
            raise ValueError(f"released cfg: {key}={cfg[key]} is not supported, {value} is")
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


def config_from_transformers(values: Mapping[str, Any]) -> WavLMConfig:
    """The configuration in transformers' `config.json`, whose waveform normalisation lies in
    another file: it is taken from `do_stable_layer_norm`, as all published sizes have it."""
    if values.get("model_type") != "wavlm":
        raise ValueError(f"model_type is {values.get('model_type')}, a wavlm is wanted")
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
        normalize_waveform=stable,
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


def save_released(model: WavLM, path: Path) -> None:
    """Write the released file layout: `cfg` and `model`."""
    torch.save({"cfg": released_cfg(model.config), "model": to_released(model)}, path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a torch file, without running code from it.

    Raises:
        ValueError: if the file cannot be read, or holds more than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        reason = (str(error).splitlines() or ["the file is empty"])[0]
        raise ValueError(f"{path} is not a checkpoint that is safe to read: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no checkpoint: it holds a {type(content).__name__}")
    return content


def load_wavlm(source: str | Path) -> WavLM:
    """A WavLM in evaluation mode from one of our checkpoints, a released file or a folder.

    Args:
        source: one of our `.ckpt` files; a released `.pt` file (`cfg` and `model`); a folder with
            transformers' `config.json` and `model.safetensors`.

    Raises:
        ValueError: naming what is missing, left over or unreadable.
        FileNotFoundError: if there is nothing at `source`.
    """
    path = Path(source)
    if path.is_dir():
        from safetensors.torch import load_file

        config = config_from_transformers(json.loads(_inside(path, "config.json").read_text()))
        state = rename(load_file(_inside(path, "model.safetensors")), "transformers", "ours")
        return _build(config, state, path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    content = read_checkpoint(path)
    if "cfg" in content:
        state = rename(content["model"], "released", "ours")
        return _build(config_from_released(content["cfg"]), state, path)
    if "state_dict" not in content or "model" not in content.get("hyper_parameters", {}):
        raise ValueError(f"{path} is no WavLM checkpoint: it holds {_some(sorted(content))}")
    prefix = "model."
    state = {
        n.removeprefix(prefix): t for n, t in content["state_dict"].items() if n.startswith(prefix)
    }
    return _build(WavLMConfig.from_dict(content["hyper_parameters"]["model"]), state, path)


def _inside(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise FileNotFoundError(f"{folder} is no folder of transformers: it has no {name}")
    return folder / name


def _build(config: WavLMConfig, state: State, path: Path) -> WavLM:
    model = WavLM(config)
    for name, tensor in model.state_dict().items():
        if name in state and state[name].shape != tensor.shape:
            raise ValueError(
                f"{path} does not fit its configuration: {name} has shape "
                f"{tuple(state[name].shape)}, {tuple(tensor.shape)} is wanted"
            )
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise ValueError(
            f"{path} does not fit its configuration: missing {_some(missing) or 'nothing'}; "
            f"left over {_some(unexpected) or 'nothing'}"
        )
    return model.eval()
