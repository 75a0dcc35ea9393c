# SPDX-License-Identifier: Apache-2.0
"""Reading a WavLM from wherever it comes: our checkpoints, released files, folders, hub ids.

Nothing in a file is run: safetensors, or torch files that hold tensors and plain values alone.
"""

import dataclasses
import json
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wavlm_lightning.checkpoint_file import DamagedFileError, read_checkpoint
from wavlm_lightning.files import naming, read_json, replacing, write_text
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.earlier_names import current_parameters
from wavlm_lightning.model.fairseq import encoder_of, is_fairseq, read_arrays
from wavlm_lightning.model.layout_configs import (
    config_from_released,
    config_from_torchaudio,
    config_from_transformers,
    feature_extractor,
    released_cfg,
    torchaudio_arguments,
    transformers_config,
)
from wavlm_lightning.model.layouts import (
    State,
    from_torchaudio,
    is_torchaudio,
    rename,
    some,
    to_released,
    to_torchaudio,
    to_transformers,
)
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.model.weights import (
    INDEX,
    WEIGHTS,
    check_finite_weights,
    inside,
    mapping,
    read_folder,
    read_weights,
    tensors,
)
from wavlm_lightning.seeding import torch_generator
from wavlm_lightning.shipped import extras

CONFIG, EXTRACTOR = "config.json", "preprocessor_config.json"
HUB_FILES = [CONFIG, EXTRACTOR, "*.safetensors", f"*{INDEX}"]
HUB_PICKLES = ["pytorch_model*.bin"]
ENCODER = "wavlm."  # before the encoder's names in transformers' classes that have a head
OWN_ENCODER = "model."  # the same in our training modules


def save_released(model: WavLM, path: Path) -> None:
    """Write the released file layout: `cfg` and `model`."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save({"cfg": released_cfg(model.config), "model": to_released(model)}, file)


@dataclass(frozen=True)
class TransformersHead:
    """What one of transformers' WavLM classes has beside the encoder.

    Args:
        name: of the class.
        config: further keys of `config.json`.
        state: its own parameters.
    """

    name: str
    config: dict[str, Any]
    state: State


def save_transformers(model: WavLM, folder: Path, head: TransformersHead | None = None) -> None:
    """Write a folder that transformers' `from_pretrained` reads, for each of its WavLM classes."""
    from safetensors.torch import save_file

    config, state = transformers_config(model.config), to_transformers(model)
    if head is not None:
        config |= {"architectures": [head.name], **head.config}
        state = {ENCODER + name: tensor for name, tensor in state.items()} | head.state
    _write_json(folder / CONFIG, config)
    _write_json(folder / EXTRACTOR, feature_extractor(model.config))
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    with replacing(folder / WEIGHTS[0]) as temporary:
        save_file(state, temporary, {"format": "pt"})


def save_torchaudio(model: WavLM, folder: Path) -> None:
    """Write a state dict and the arguments of `torchaudio.models.wavlm_model` that it fits."""
    _write_json(folder / "arguments.json", torchaudio_arguments(model.config))
    with replacing(folder / "wavlm.pt") as temporary, temporary.open("wb") as file:
        torch.save(to_torchaudio(model), file)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=2) + "\n")


def load_wavlm(
    source: str | Path,
    *,
    download: bool = False,
    masked_group_norm: bool | None = None,
    train: bool = False,
) -> WavLM:
    """A WavLM from any of the layouts, in evaluation mode if nothing else is said.

    Args:
        source: one of our `.ckpt` files; a released `.pt` file (`cfg` and `model`), also of
            fairseq's HuBERT, which is a WavLM without position bias; a folder with
            transformers' `config.json` and weights, of any of its classes; a hub id of one; a file
            with the state dict of torchaudio's WavLM (torch or safetensors).
        download: fetch a hub id that is not on this machine yet.
        masked_group_norm: in place of what the file says; False is the released behaviour.
        train: in training mode, with dropout and LayerDrop, to be trained further.

    Raises:
        ValueError: naming what is missing, left over or unreadable.
        FileNotFoundError: if there is nothing at `source`.
    """
    path = local_path(str(source), download=download)
    config, state = _read(path)
    if masked_group_norm is not None:
        config = dataclasses.replace(config, masked_group_norm=masked_group_norm)
    return _build(config, state, path).train(train)


def read_config(path: Path) -> WavLMConfig:
    """The configuration of what `load_wavlm` reads from a file or folder.

    Raises:
        ValueError: if it cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are on weights
        return _read(path)[0]


def _read(path: Path) -> tuple[WavLMConfig, State]:
    """Configuration and weights under our names, from a file or folder of any layout.

    Raises:
        ValueError: naming the file, and what is wrong with it.
    """
    if path.is_dir():
        return _from_folder(path)
    with naming(path):
        if path.suffix == ".safetensors":
            return _from_torchaudio(read_weights(path), path)
        return _from_content(_content(path), path)


def _content(path: Path) -> Mapping[str, Any]:
    """What a torch file holds; of one with objects beside its arrays, the arrays of a HuBERT."""
    try:
        return read_checkpoint(path)
    except DamagedFileError as error:
        with suppress(ValueError):
            content = read_arrays(path)
            if isinstance(content, Mapping) and is_fairseq(content):
                return content
        raise error


def _from_content(content: Mapping[str, Any], path: Path) -> tuple[WavLMConfig, State]:
    if is_fairseq(content):
        return encoder_of(content)
    if "cfg" in content and "model" in content:
        state = rename(tensors(content["model"], "model"), "released", "ours")
        return config_from_released(mapping(content["cfg"], "cfg")), state
    if is_torchaudio(content):
        return _from_torchaudio(tensors(content, str(path)), path)
    about = content.get("hyper_parameters", {})
    if "state_dict" not in content or not isinstance(about, Mapping) or "model" not in about:
        raise ValueError(f"{path} is no WavLM checkpoint: it holds {some(sorted(content))}")
    state = {
        n.removeprefix(OWN_ENCODER): t
        for n, t in tensors(content["state_dict"], "state_dict").items()
        if n.startswith(OWN_ENCODER)
    }
    state = current_parameters(state)
    return WavLMConfig.from_dict(dict(mapping(about["model"], "model"))), state


def local_path(source: str, *, download: bool) -> Path:
    """A file or folder on this machine: the source itself, or what the hub's cache has of an id.

    Raises:
        FileNotFoundError: if there is neither, and saying what would fetch it.
    """
    path = Path(source)
    if path.exists():
        return path
    if path.is_absolute() or len(path.parts) != 2 or path.suffix in (".ckpt", ".pt"):
        raise FileNotFoundError(f"no checkpoint at {source}")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            f"{source} is not on this machine; for a hub id: {extras('hf')}"
        ) from error
    here = not download
    try:
        found = snapshot_download(source, local_files_only=here, allow_patterns=HUB_FILES)
        if download and not any(Path(found).glob("*.safetensors")):
            found = snapshot_download(source, allow_patterns=[*HUB_FILES, *HUB_PICKLES])
    except LocalEntryNotFoundError as error:
        if download:
            raise FileNotFoundError(
                f"no checkpoint at {source}; the hub cannot be reached"
            ) from error
        raise FileNotFoundError(
            f"the hub id {source} is not on this machine; download=true fetches it"
        ) from error
    except HfHubHTTPError as error:
        raise FileNotFoundError(f"no checkpoint at {source}; the hub: {error}") from error
    return Path(found)


def _from_folder(folder: Path) -> tuple[WavLMConfig, State]:
    about, extractor = inside(folder, CONFIG), folder / EXTRACTOR
    normalize = None
    with naming(extractor):
        if extractor.is_file():
            normalize = mapping(read_json(extractor), "the file").get("do_normalize")
    with naming(about):
        values = mapping(read_json(about), "the file")
        config = config_from_transformers(values, normalize=normalize)
    state = read_folder(folder)
    if any(name.startswith(ENCODER) for name in state):
        head = sorted(name for name in state if not name.startswith(ENCODER))
        state = {n.removeprefix(ENCODER): t for n, t in state.items() if n.startswith(ENCODER)}
        if head:
            warnings.warn(f"{folder}: its head is left out: {some(head)}", stacklevel=4)
    with naming(folder):
        return config, rename(state, "transformers", "ours")


def _from_torchaudio(state: Mapping[str, torch.Tensor], path: Path) -> tuple[WavLMConfig, State]:
    """The mask embedding, which torchaudio's model lacks, is initialized as before a training."""
    renamed = from_torchaudio(state)
    config = config_from_torchaudio(renamed)
    fresh = torch.rand(config.dim, generator=torch_generator(0, "mask vector"))
    warnings.warn(f"{path} holds no mask embedding: a new one is initialized", stacklevel=4)
    return config, {**renamed, "mask_embedding": fresh}


def _build(config: WavLMConfig, state: State, path: Path) -> WavLM:
    model = WavLM(config)
    for name, tensor in model.state_dict().items():
        if name in state and state[name].shape != tensor.shape:
            raise ValueError(
                f"{path} does not fit its configuration: {name} must have shape "
                f"{tuple(tensor.shape)} (got {tuple(state[name].shape)})"
            )
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise ValueError(
            f"{path} does not fit its configuration: missing {some(missing) or 'nothing'}; "
            f"left over {some(unexpected) or 'nothing'}"
        )
    check_finite_weights(model.state_dict(), path)
    return model.eval()
