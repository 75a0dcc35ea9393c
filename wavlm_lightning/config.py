# SPDX-License-Identifier: Apache-2.0
"""Configuration from YAML files and the command line, with errors that say what to change.

jsonargparse reads both; a later file or word wins. What is here makes its errors one line long and
adds the nearest known key to an unknown one.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import yaml

NOT_KEYS = ("help", "config", "print_config", "print_shtab")  # words of the parser's own


class ConfigError(ValueError):
    """A key or value that does not fit; the message is one line."""


class Parser(jsonargparse.ArgumentParser):
    """A parser that raises `ConfigError` where others print their usage and exit.

    Keys are taken whole: `--optim.warmup` is not `--optim.warmup_updates`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any
    ) -> Any:
        """As jsonargparse's, after a look at the files, so that a broken one is named."""
        for word in args or ():
            if word.startswith("--config="):
                read_yaml(Path(word.partition("=")[2]))
        return super().parse_args(args, *rest, **kwargs)

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
            wanted = re.sub(r"Literal\[([^]]*)\]", r"one of \1", wanted)
            return f"{match[1]} {' '.join(wanted.split())}"
        if match := re.match(r"the following arguments are required: (.*)", message):
            return f"not set: {match[1]}; a configuration file sets them all, --config=FILE"
        return " ".join(message.split())

    def _unknown(self, key: str) -> str:
        known = [a.dest for a in self._actions if a.dest and a.dest not in NOT_KEYS]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; the nearest one is {near[0]}" if near else f"; there are {_groups(known)}"
        return f"{key} is not a configuration key{hint}"


def _groups(known: list[str]) -> str:
    return ", ".join(sorted({k.split(".")[0] for k in known}))


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a YAML file.

    Raises:
        ConfigError: naming the file, if it is missing or not a mapping in YAML.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"no configuration file {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no sections: a mapping in YAML is wanted")
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
