# SPDX-License-Identifier: Apache-2.0
"""Names of tensors in each layout of checkpoints: ours, the released, transformers', torchaudio's.

All four hold the same tensors under other names; only torchaudio joins three projections into one,
and has no mask embedding. Conversions are strict: an entry of another name is an error, by name.

Names: microsoft/unilm 768a3c8 (wavlm/), transformers 5.23, torchaudio 2.11.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wavlm_lightning.model.wavlm import WavLM

State = dict[str, Tensor]

# Our name, the released name, transformers' name; {i} is a layer number. The order is the files'.
_NAMES = [
    ("mask_embedding", "mask_emb", "masked_spec_embed"),
    ("projection_norm.", "layer_norm.", "feature_projection.layer_norm."),
    ("projection.", "post_extract_proj.", "feature_projection.projection."),
    (
        "feature_encoder.layers.{i}.conv.",
        "feature_extractor.conv_layers.{i}.0.",
        "feature_extractor.conv_layers.{i}.conv.",
    ),
    (
        "feature_encoder.layers.{i}.norm.",
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


def _of_wavlm(model: WavLM) -> State:
    """Its tensors, if it is one.

    Raises:
        ValueError: for a HuBERT, which these layouts do not describe.
    """
    if model.config.position_bias != "gated":
        raise ValueError(
            "model.position_bias=none is a HuBERT: only our own checkpoints and TO=torch_export "
            "hold it, the layouts of WavLM do not"
        )
    return model.state_dict()


def to_released(model: WavLM) -> State:
    """The state dict that the released inference class loads (`model` of its checkpoint files)."""
    state = rename(_of_wavlm(model), "ours", "released")
    if model.config.feature_encoder_norm == "layer":
        state = {_FRONTEND_NORM.sub(r"\g<1>1.\2", n): t for n, t in state.items()}
    return state


def to_transformers(model: WavLM) -> State:
    """The state dict of transformers' `WavLMModel`."""
    return rename(_of_wavlm(model), "ours", "transformers")


def to_torchaudio(model: WavLM) -> State:
    """The state dict of `torchaudio.models.wavlm_model`, which has no mask embedding."""
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


def is_torchaudio(state: Mapping[str, Any]) -> bool:
    """Whether these are the names of torchaudio's WavLM."""
    return any(name.startswith(_TORCHAUDIO) for name in state)


def from_torchaudio(state: Mapping[str, Tensor]) -> State:
    """Our names for those of `torchaudio.models.wavlm_model`, which has no mask embedding.

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
