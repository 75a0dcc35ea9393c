# SPDX-License-Identifier: Apache-2.0
"""Values of a configuration in layers: files, what a program adds, the command line.

A later layer wins. Each file is read once, and every value keeps the name of what set it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from wavlm_lightning.config import ConfigError, read_yaml, refuse_classes, with_home
from wavlm_lightning.shipped import named_file

COMMAND_LINE = "the command line"
_MISSING = object()


class Layer(NamedTuple):
    """Values as YAML nests them, or under dotted keys, and what set them."""

    source: str
    values: Mapping[str, Any]
    is_file: bool = False


@dataclass(frozen=True)
class Stack:
    """Layers, the strongest last.

    >>> stack = Stack().plus("a.yaml", {"optim": {"lr": 1}}).plus("b.yaml", {"optim.lr": 2})
    >>> stack.get("optim.lr"), stack.get("optim.eps", 0)
    (2, 0)
    """

    layers: tuple[Layer, ...] = ()

    @classmethod
    def of_overrides(cls, overrides: Sequence[str]) -> "Stack":
        """Arguments such as `--config=FILE` and `--optim.lr=1e-3`, in their order.

        Raises:
            ConfigError: for an argument that is neither, or a file that cannot be read.
        """
        stack = cls()
        for key, value in _pairs(overrides):
            if key == "config":
                stack = stack.plus_file(named_file(value))
            else:
                refuse_classes({key: mapping_or_text(value)})
                stack = stack.plus(COMMAND_LINE, {key: value})
        return stack

    def __add__(self, other: "Stack") -> "Stack":
        return Stack(self.layers + other.layers)

    def plus(self, source: str, values: Mapping[str, Any]) -> "Stack":
        """Stack with one more layer, unless that is empty."""
        return Stack((*self.layers, Layer(source, values))) if values else self

    def plus_file(self, path: Path) -> "Stack":
        """Stack with one more YAML file.

        Raises:
            ConfigError: naming the file, if it cannot be read or names a class.
        """
        values = read_yaml(path)
        refuse_classes(values, where=f"{path}: ")
        return Stack((*self.layers, Layer(str(path), values, is_file=True)))

    def files(self) -> "Stack":
        """The layers that are files."""
        return Stack(tuple(layer for layer in self.layers if layer.is_file))

    def overrides(self) -> "Stack":
        """The layers that are no files."""
        return Stack(tuple(layer for layer in self.layers if not layer.is_file))

    def get(self, key: str, default: Any = None) -> Any:
        """What the strongest layer says of a dotted key; of an override it is the text, or None."""
        for layer in reversed(self.layers):
            found = _find(layer.values, key.split("."))
            # A word is text until its type is known; null alone means the same for all types.
            if found == "null":
                return None
            if found is not _MISSING:
                return with_home(found) if isinstance(found, str) else found
        return default

    def take(self, *keys: str) -> tuple["Stack", list[dict[str, Any]]]:
        """The stack without some keys of its top, and for each of these the layers' values merged.

        Raises:
            ConfigError: if one holds something else than a mapping.
        """
        taken: list[dict[str, Any]] = []
        for key in keys:
            merged: dict[str, Any] = {}
            for layer in self.layers:
                value = layer.values.get(key) or {}
                if isinstance(value, str):
                    value = mapping_or_text(value)
                if not isinstance(value, Mapping):
                    raise ConfigError(f"{key} must be a mapping of keys (got {value})")
                merged |= value
            taken.append(merged)
        left = [
            layer._replace(values={k: v for k, v in layer.values.items() if k not in keys})
            for layer in self.layers
        ]
        return Stack(tuple(left)), taken

    def flattened(self, leaves: set[str]) -> Iterator[tuple[str, str, Any]]:
        """Source, dotted key and value of all that is said, the weakest first.

        Args:
            leaves: Keys whose values are not looked into, even if they are mappings.
        """
        for layer in self.layers:
            for key, value in _flat(layer.values, leaves):
                yield layer.source, key, value


def override_words(overrides: Mapping[str, Any]) -> list[str]:
    """Keys and values as the command line has them, which reads YAML.

    >>> override_words({"optim.lr": 1e-3, "upstream.name": "mine", "heads.seed": [0, 1]})
    ['--optim.lr=0.001', '--upstream.name=mine', '--heads.seed=[0, 1]']
    """
    return [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in overrides.items()
    ]


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Key and text of `--key=text`, or of `--key text`.

    >>> list(_pairs(["--a=1", "--b", "2"]))
    [('a', '1'), ('b', '2')]
    """
    left = list(overrides)
    while left:
        word = left.pop(0)
        key, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not key:
            raise ConfigError(f"an argument must be --key=value (got {word})")
        if not equals:
            if not left or left[0].startswith("--"):
                raise ConfigError(f"--{key} has no value: --{key}=VALUE")
            text = left.pop(0)
        yield key, with_home(text)


def mapping_or_text(text: str) -> Any:
    """A mapping or list in YAML as it is; any other text as text."""
    if not text.lstrip().startswith(("{", "[")) and ": " not in text:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _find(values: Any, parts: list[str]) -> Any:
    """The value below keys that may be nested, dotted, or both."""
    if not parts:
        return values
    if isinstance(values, str):
        values = mapping_or_text(values)
    if not isinstance(values, Mapping):
        return _MISSING
    # Files mix nested and dotted keys: the longest name that is there wins.
    for count in range(len(parts), 0, -1):
        name = ".".join(parts[:count])
        if name in values:
            return _find(values[name], parts[count:])
    return _MISSING


def _flat(
    values: Mapping[str, Any], leaves: set[str], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        inner = mapping_or_text(value) if isinstance(value, str) else value
        if key not in leaves and isinstance(inner, Mapping) and inner:
            yield from _flat(inner, leaves, f"{key}.")
        else:
            yield key, value
