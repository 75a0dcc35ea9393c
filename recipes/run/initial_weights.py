# SPDX-License-Identifier: Apache-2.0
"""Training that starts from an encoder: its configuration, and its weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavlm_lightning.checkpoint_file import read_checkpoint
from wavlm_lightning.config import ConfigError, read_yaml, with_home
from wavlm_lightning.model.checkpoint import load_wavlm, local_path, read_config
from wavlm_lightning.model.config import TRAINED_FOR, WavLMConfig

if TYPE_CHECKING:  # Lightning takes seconds to import, and the rest of this does without
    from wavlm_lightning.pretrain.pretrainer import Pretrainer

HEAD = "objective."


def find_word(argv: list[str], *key: str) -> Any:
    """A value that must be known before the parser can be built: the last of files and words."""
    found, argv = None, [with_home(word) for word in argv]
    for word in argv:
        if word.startswith("--config="):
            content: Any = read_yaml(Path(word.partition("=")[2]))
            for name in key:
                content = content.get(name) if isinstance(content, dict) else None
            found = found if content is None else content
    for word in argv:
        if word.startswith(f"--{'.'.join(key)}="):
            found = word.partition("=")[2]
    return with_home(found) if isinstance(found, str) else found


def config_of_init(argv: list[str]) -> WavLMConfig | None:
    """The configuration of what training starts from, None if it starts from nothing.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if what is there cannot be read.
    """
    source = find_word(argv, "init")
    if not source:
        return None
    download = str(find_word(argv, "download")).lower() == "true"
    return read_config(init_path(str(source), download=download))


def init_path(source: str, *, download: bool) -> Path:
    """File or folder of what training starts from.

    Raises:
        FileNotFoundError: if there is nothing.
    """
    try:
        return local_path(source, download=download)
    except FileNotFoundError as error:
        hint = "; make pretrain makes this one" if source.startswith("runs/pretrain/") else ""
        raise FileNotFoundError(f"init: {error}{hint}") from error


def as_it_was_trained(values: dict[str, Any], start: WavLMConfig) -> dict[str, Any]:
    """Section `model`, under the name of the source's size.

    Raises:
        ConfigError: if it asks for a network that the source's weights are not of.
    """
    wanted = start.to_dict()
    for name in TRAINED_FOR:
        if values[name] != wanted[name]:
            raise ConfigError(
                f"model.{name}={values[name]}, but init has {wanted[name]}: leave it out"
            )
    return {**values, "size": start.size}


def start_from(module: "Pretrainer", source: Path) -> str:
    """Give a module the encoder of `source`, and its head if it predicts the same codes.

    Returns:
        A line on what was taken.
    """
    module.model.load_state_dict(load_wavlm(source).state_dict())
    taken = f"starting from the encoder of {source}"
    content = read_checkpoint(source) if source.suffix == ".ckpt" else {}
    about = content.get("hyper_parameters", {})
    if "objective" not in about:
        return f"{taken}; it has no prediction head: a new one is drawn"
    for key in ("codebooks", "objective"):
        if about.get(key) != module.hparams[key]:
            return f"{taken}; {key} of its prediction head differ: a new head is drawn"
    state = content["state_dict"]
    head = {n.removeprefix(HEAD): t for n, t in state.items() if n.startswith(HEAD)}
    module.objective.load_state_dict(head)
    return f"{taken} and its prediction head"
