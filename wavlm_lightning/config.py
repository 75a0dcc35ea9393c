# SPDX-License-Identifier: Apache-2.0
"""Configuration from YAML files and the command line, with errors that say what to change.

jsonargparse reads both; a later file or word wins. What is here makes its errors one line long and
adds the nearest known key to an unknown one.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import jsonargparse


class ConfigError(ValueError):
    """A key or value that does not fit; the message is one line."""


class Parser(jsonargparse.ArgumentParser):
    """A parser that raises `ConfigError` where others print their usage and exit."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Called by jsonargparse with whatever went wrong."""
        raise ConfigError(self._explain(message)) from ex

    def _explain(self, message: str) -> str:
        if match := re.match(r"unrecognized arguments: --([\w.]+)", message):
            return self._unknown(match[1])
        if match := re.match(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message):
            return self._unknown(f"{match[1]}.{match[2]}")
        if match := re.match(r"Option '([\w.]+)' is not accepted", message):
            return self._unknown(match[1])
        if match := re.match(r'Parser key "([\w.]+)":\s*(.*)', message, re.DOTALL):
            wanted = re.sub(r"<class '(\w+)'>", r"\1", match[2]).replace("typing.", "")
            wanted = wanted.replace("Expected a ", "wants ").replace(". Got value: ", ", got ")
            return f"{match[1]} {' '.join(wanted.split())}"
        if match := re.match(r"the following arguments are required: (.*)", message):
            return f"not set: {match[1]}; give --config=configs/pretrain/mini.yaml or another file"
        return " ".join(message.split())

    def _unknown(self, key: str) -> str:
        known = [a.dest for a in self._actions if a.dest and a.dest not in ("help", "config")]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; the nearest one is {near[0]}" if near else f"; there are {_groups(known)}"
        return f"{key} is not a configuration key{hint}"


def _groups(known: list[str]) -> str:
    return ", ".join(sorted({k.split(".")[0] for k in known}))


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
