# SPDX-License-Identifier: Apache-2.0
"""Configuration from YAML files and the command line, with errors that say what to change.

jsonargparse reads both; a later file or word wins. What is here makes its errors one line long and
adds the nearest known key to an unknown one.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jsonargparse
import yaml

from wavlm_lightning.fields import Checked, Range, check_number, check_values, in_words
from wavlm_lightning.files import read_text

S = TypeVar("S", bound=Checked)
HOME = "~/"  # what paths below the home folder begin with
NOT_KEYS = ("help", "config", "print_config", "print_shtab")  # words of the parser's own


class ConfigError(ValueError):
    """A key or value that does not fit; the message is one line."""


class Parser(jsonargparse.ArgumentParser):
    """A parser that raises `ConfigError` where others print their usage and exit.

    Keys are taken whole: `--optim.warmup` is not `--optim.warmup_updates`.
    """

    def __init__(self, **kwargs: Any):
        self._sections: list[tuple[str, type]] = []
        self._limits: dict[str, Range] = {}
        super().__init__(allow_abbrev=False, **kwargs)

    def add_section(self, cls: type, name: str = "", **kwargs: Any) -> None:
        """The fields of a dataclass as keys; their values are checked with the names of the keys.

        Args:
            cls: A dataclass.
            name: What stands before the names of the fields; they are keys of the top if empty.
            kwargs: As jsonargparse's `add_class_arguments` has them.
        """
        self._sections.append((name, cls))
        self.add_class_arguments(cls, name or None, **kwargs)

    def add_number(self, name: str, limits: Range, **kwargs: Any) -> None:
        """A key of the top whose value lies within limits."""
        self._limits[name] = limits
        self.add_argument(f"--{name}", **kwargs)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any
    ) -> Any:
        """As jsonargparse's, after a look at the files, so that a broken one is named."""
        words = [with_home(word) for word in args or ()]
        for word in words:
            if word.startswith("--config="):
                file = Path(word.partition("=")[2])
                _refuse_classes(read_yaml(file), where=f"{file}: ")
            _refuse_classes_in_word(word)
        parsed = super().parse_args(words, *rest, **kwargs)
        for key, value in parsed.items():
            if isinstance(value, str):
                parsed[key] = with_home(value)
            elif isinstance(value, list):
                parsed[key] = [with_home(v) if isinstance(v, str) else v for v in value]
        self._check(parsed)
        return parsed

    def _check(self, parsed: Any) -> None:
        """Values that are of the right type and make no sense."""
        try:
            for name, cls in self._sections:
                check_values(cls, (parsed[name] if name else parsed).as_dict(), name)
            for key, limits in self._limits.items():
                check_number(key, parsed[key], limits)
        except ValueError as error:
            raise ConfigError(str(error)) from error

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
            return self._unfit(match[1], " ".join(match[2].split()))
        if match := re.match(r"the following arguments are required: (.*)", message):
            return f"not set: {match[1]}; a configuration file sets them all, --config=FILE"
        return " ".join(message.split())

    def _unfit(self, key: str, message: str) -> str:
        """What a value must be, from the type of its key."""
        types = [getattr(a, "_typehint", None) for a in self._actions if a.dest == key]
        got = re.search(r"(?:Got value|Given value): (.*)$", message)
        if not types or types[0] is None or got is None:
            return f"{key}: {message}"
        return f"{key} must be {in_words(types[0])} (got {got[1]})"

    def _unknown(self, key: str) -> str:
        known = [a.dest for a in self._actions if a.dest and a.dest not in NOT_KEYS]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; the nearest one is {near[0]}" if near else f"; there are {_groups(known)}"
        return f"{key} is not a configuration key{hint}"


def section_of(cls: type[S], parsed: Any) -> S:
    """A dataclass whose fields are keys of the top; those that are no keys have their defaults."""
    names = [field.name for field in dataclasses.fields(cls) if field.name in parsed]
    return cls(**{name: parsed[name] for name in names})


def with_home(word: str) -> str:
    """A path, or a word such as `--key=~/a`, with the home folder in place of `~`.

    Shells replace it where a word begins with it, and not all of them behind a `=`.
    """
    key, equals, value = word.partition("=")
    if word.startswith("--") and equals and value.startswith(HOME):
        return f"{key}={Path(value).expanduser()}"
    return str(Path(word).expanduser()) if word.startswith(HOME) else word


def _refuse_classes(values: Any, *, where: str = "", key: str = "") -> None:
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
        _refuse_classes(value, where=where, key=f"{key}{name}.")


def _refuse_classes_in_word(word: str) -> None:
    key, _, value = word.removeprefix("--").partition("=")
    content = None
    if "class_path" in value or "init_args" in value:
        try:
            content = yaml.safe_load(value)
        except yaml.YAMLError:
            content = None
    _refuse_classes({key: content})


def _groups(known: list[str]) -> str:
    return ", ".join(sorted({k.split(".")[0] for k in known}))


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
