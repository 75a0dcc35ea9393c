# SPDX-License-Identifier: Apache-2.0
"""Heads that were trained here, as transformers' classes have them.

A class fits where it computes the same: CTC on a linear layer, classification of a mean, a logit a
frame, x-vectors. Recurrent heads and masks have no counterpart there. Classes and their parameters:
transformers 5.23, models/wavlm.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from wavlm_lightning.checkpoint_file import read_checkpoint
from wavlm_lightning.config import ConfigError, read_yaml
from wavlm_lightning.downstream.adapt.policy import ENCODER
from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.upstream import load_upstream
from wavlm_lightning.downstream.heads.linear import FrameLinear
from wavlm_lightning.downstream.heads.xvector import CONTEXT
from wavlm_lightning.downstream.text.symbols import SPECIAL, WORD_END
from wavlm_lightning.downstream.upstreams.wavlm import WavLMUpstream
from wavlm_lightning.files import write_text
from wavlm_lightning.model.checkpoint import TransformersHead, load_wavlm
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.recipes.run.folder import CONFIG

State = dict[str, Tensor]
ONE_LAYER = -1e4  # next to 0, nothing is left of it after a softmax in float32
# In place of ours, in its order: the blank is transformers' padding, and the other way round.
THEIR_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


@dataclass(frozen=True)
class TrainedHead:
    """What a checkpoint of a task holds.

    Args:
        model: the encoder.
        head: its head, None where transformers has none that computes the same.
        note: what its user should know.
        symbols: of a head that writes text.
    """

    model: WavLM
    head: TransformersHead | None
    note: str = ""
    symbols: list[str] = field(default_factory=list)


def read_trained_head(source: Path) -> TrainedHead | None:
    """What `make finetune` and `make superb` leave; None for any other checkpoint.

    Raises:
        ConfigError: if the encoder under a head cannot be told.
    """
    if source.suffix != ".ckpt" or not source.is_file():
        return None
    content = read_checkpoint(source)
    about = content.get("hyper_parameters", {})
    if any(name.startswith(ENCODER) for name in content.get("state_dict", {})):
        if "symbols" in about:  # a transcript's head, on the last layer where nothing else is said
            content = {"head": FrameLinear.__name__, **content}
        if "head" not in content:
            return None
        return _with_head(load_wavlm(source), content, about.get("layer", "last"), about)
    return _probed(source, content) if "head" in content else None


def _probed(source: Path, content: dict[str, Any]) -> TrainedHead:
    """A head on a frozen upstream, which the configuration of its run names."""
    run = next((p for p in source.resolve().parents if (p / CONFIG).is_file()), None)
    if run is None:
        raise ConfigError(f"{source} is a head, and no {CONFIG} of its run lies above it")
    values = read_yaml(run / CONFIG)
    about = {k: v for k, v in values["upstream"].items() if k not in ("name", "sha256")}
    upstream, digest = load_upstream(UpstreamConfig(**about))
    if digest != values["upstream"]["sha256"]:
        raise ConfigError(
            f"{about['source']} is not what {source} was trained on any more: its hash differs"
        )
    inner = upstream.upstream
    if not isinstance(inner, WavLMUpstream):
        raise ConfigError(f"{source} is a head on {values['upstream']['name']}, which is no WavLM")
    return _with_head(inner.model, content, values["featurizer"]["layer"], values["featurizer"])


def _with_head(
    model: WavLM, content: dict[str, Any], layer: int | str | None, about: Mapping[str, Any]
) -> TrainedHead:
    """An encoder and the head above it.

    Args:
        model: The encoder.
        content: Of the checkpoint.
        layer: What the head reads: a layer, "last", or None for the weighted sum.
        about: Whether layers are normalised before their sum, and the symbols of a text.
    """
    kind, task, symbols = content["head"], content.get("task", "ctc"), about.get("symbols", [])
    if kind not in HEADS:
        return TrainedHead(model, None, f"{kind}, the head of {task}, has no class there")
    if about.get("normalize"):
        return TrainedHead(model, None, "layers are normalised before their sum; none does there")
    if symbols:
        if layer != "last":
            return TrainedHead(model, None, "WavLMForCTC reads the last layer alone")
        note = f"a head of {len(symbols)} characters, as WavLMForCTC, with its tokenizer"
        return TrainedHead(model, _transcript(content, symbols), note, symbols)
    head, note = HEADS[kind](content)
    if layer != "last":
        weights = _layer_weights(content["state_dict"], layer, model.config.num_layers + 1)
        head.state["layer_weights"] = weights
        # A block that LayerDrop skips leaves no layer to sum there, and training would end in an
        # error.
        head.config.update(use_weighted_layer_sum=True, layerdrop=0.0)
    return TrainedHead(model, head, f"the head of {task}, as {head.name}{note}")


def _transcript(content: dict[str, Any], symbols: list[str]) -> TransformersHead:
    config = {
        "vocab_size": len(symbols),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "ctc_loss_reduction": "sum",
        "ctc_zero_infinity": True,
    }
    state = _renamed(content["state_dict"], {"head.linear": "lm_head"})
    return TransformersHead("WavLMForCTC", config, state)


def _layer_weights(state: State, layer: Any, num_layers: int) -> Tensor:
    """(L,) before their softmax."""
    if "featurizer.logits" in state:
        return state["featurizer.logits"]
    weights = next(iter(state.values())).new_full((num_layers,), ONE_LAYER)
    weights[0 if layer is None else layer] = 0.0
    return weights


def _renamed(state: State, names: dict[str, str]) -> State:
    return {
        f"{theirs}.{leaf}": state[f"{ours}.{leaf}"]
        for ours, theirs in names.items()
        for leaf in ("weight", "bias")
    }


def _labels(content: dict[str, Any], count: int) -> dict[str, Any]:
    classes = content["classes"] or [f"LABEL_{i}" for i in range(count)]
    return {
        "id2label": {str(i): name for i, name in enumerate(classes)},
        "label2id": {name: i for i, name in enumerate(classes)},
    }


def _classifier(content: dict[str, Any]) -> tuple[TransformersHead, str]:
    state = _renamed(
        content["state_dict"],
        {"head.projection": "projector", "head.classifier": "classifier"},
    )
    config = _labels(content, len(state["classifier.bias"]))
    config["classifier_proj_size"] = len(state["projector.bias"])
    return TransformersHead("WavLMForSequenceClassification", config, state), ""


def _frames(content: dict[str, Any]) -> tuple[TransformersHead, str]:
    state = _renamed(content["state_dict"], {"head.linear": "classifier"})
    config = _labels(content, len(state["classifier.bias"]))
    return TransformersHead("WavLMForAudioFrameClassification", config, state), ""


def _xvector(content: dict[str, Any]) -> tuple[TransformersHead, str]:
    own = content["state_dict"]
    names = {"projection": "projector", "embedding": "feature_extractor", "output": "classifier"}
    state = _renamed(own, {f"head.{ours}": theirs for ours, theirs in names.items()})
    widths = []
    for i in range(len(CONTEXT)):
        weight = own[f"head.layers.{i}.weight"]  # (out, in, width in frames)
        state[f"tdnn.{i}.kernel.weight"] = weight.transpose(1, 2).flatten(1)
        state[f"tdnn.{i}.kernel.bias"] = own[f"head.layers.{i}.bias"]
        widths.append(len(weight))
    state["objective.weight"] = own["head.classes"]
    config = _labels(content, state["objective.weight"].shape[1])
    config |= {
        "tdnn_dim": widths,
        "tdnn_kernel": [size for size, _ in CONTEXT],
        "tdnn_dilation": [dilation for _, dilation in CONTEXT],
        "xvector_output_dim": len(state["feature_extractor.bias"]),
    }
    note = "; our embeddings are relu(embeddings) there, and its logits have no ReLU before them"
    return TransformersHead("WavLMForXVector", config, state), note


HEADS = {"MeanPoolLinear": _classifier, "FrameLinear": _frames, "XVector": _xvector}


def write_tokenizer(folder: Path, symbols: list[str]) -> None:
    """Files of transformers' `Wav2Vec2CTCTokenizer` for a head with these symbols."""
    named = [*THEIR_SPECIAL, *symbols[len(SPECIAL) :]]
    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), named, strict=False))
    about = {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "processor_class": "Wav2Vec2Processor",
        **special,
        "word_delimiter_token": WORD_END,
        "do_lower_case": False,
    }
    files: dict[str, Any] = {
        "vocab.json": {symbol: i for i, symbol in enumerate(named)},
        "tokenizer_config.json": about,
        "special_tokens_map.json": special,
    }
    for name, content in files.items():
        text = json.dumps(content, indent=2, ensure_ascii=False)
        write_text(folder / name, text + "\n")
