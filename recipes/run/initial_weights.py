# SPDX-License-Identifier: Apache-2.0
"""Training that starts from an encoder: where it lies, and the shape that it has."""

from pathlib import Path

from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_stack import Stack
from wavlm_lightning.model.checkpoint import local_path, read_config
from wavlm_lightning.model.config import TRAINED_FOR, WavLMConfig
from wavlm_lightning.shipped import command


def config_of_init(stack: Stack) -> WavLMConfig | None:
    """The configuration of what training starts from, None if it starts from nothing.

    Raises:
        FileNotFoundError: if there is nothing.
        ValueError: if what is there cannot be read.
    """
    source = stack.get("init")
    if not source:
        return None
    download = str(stack.get("download")).lower() == "true"
    return read_config(init_path(str(source), download=download))


def init_path(source: str, *, download: bool) -> Path:
    """File or folder of what training starts from.

    Raises:
        FileNotFoundError: if there is nothing.
    """
    try:
        return local_path(source, download=download)
    except FileNotFoundError as error:
        hint = (
            f"; {command()} pretrain makes this one" if source.startswith("runs/pretrain/") else ""
        )
        raise FileNotFoundError(f"init: {error}{hint}") from error


def with_size(stack: Stack, start: WavLMConfig) -> Stack:
    """The stack with the name of the source's size, whatever it was called before."""
    return stack.plus("init", {"model.size": start.size})


def check_shape(model: WavLMConfig, start: WavLMConfig) -> None:
    """Refuse a configuration that asks for a network that the source's weights are not of.

    Raises:
        ConfigError: naming the key.
    """
    asked, there = model.to_dict(), start.to_dict()
    for name in TRAINED_FOR:
        if asked[name] != there[name]:
            raise ConfigError(
                f"model.{name}={asked[name]}, but init has {there[name]}: leave it out"
            )
