# SPDX-License-Identifier: Apache-2.0
"""YAML files of configuration, and errors that say what to change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from wavlm_lightning.files import read_text

HOME = "~/"  # what paths below the home folder begin with


class ConfigError(ValueError):
    """A key or value that does not fit; the message is one line."""


def with_home(word: str) -> str:
    """A path, or a word such as `--key=~/a`, with the home folder in place of `~`.

    Shells replace it where a word begins with it, and not all of them behind a `=`.
    """
    key, equals, value = word.partition("=")
    if word.startswith("--") and equals and value.startswith(HOME):
        return f"{key}={Path(value).expanduser()}"
    return str(Path(word).expanduser()) if word.startswith(HOME) else word


def refuse_classes(values: Any, *, where: str = "", key: str = "") -> None:
    """Refuse words of jsonargparse that name a class: it would import any module.

    Raises:
        ConfigError: naming the file and the key.
    """
    if isinstance(values, list):
        values = dict(enumerate(values))
    if not isinstance(values, Mapping):
        return
    for name, value in values.items():
        parts = str(name).split(".")
        if {"class_path", "init_args"} & set(parts):
            raise ConfigError(
                f"{where}{key}{name}: classes are not loaded from configuration; say a name or a "
                "number, see the section's keys"
            )
        refuse_classes(value, where=where, key=f"{key}{name}.")


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a YAML file.

    Raises:
        ConfigError: naming the file, if it is missing or not a mapping in YAML.
    """
    try:
        content = yaml.safe_load(read_text(path))
    except OSError as error:
        raise ConfigError(f"no configuration file {path}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must be a mapping in YAML: it holds no sections")
    return content


def one_line(error: Exception) -> str:
    """The message of an error; of one from a loading process, what it said there.

    >>> one_line(ValueError("Caught ValueError in DataLoader worker process 0.\\nOriginal "
    ...     "Traceback ...\\n  File ...\\nValueError: a.wav: empty file"))
    'a.wav: empty file'
    """
    text = str(error).strip()
    if text.startswith("Caught ") and "in DataLoader worker" in text:
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys.

    >>> flat({"optim": {"lr": 0.1}, "seed": 0})
    {'optim.lr': 0.1, 'seed': 0}
    """
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out
