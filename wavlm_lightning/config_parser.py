# SPDX-License-Identifier: Apache-2.0
"""Types, limits and explanations of configuration keys, with errors that say what to change.

jsonargparse converts and checks types. What is here makes its errors one line long, names the file
that a wrong value stands in, and adds the nearest known key to an unknown one.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import jsonargparse

from wavlm_lightning.config import ConfigError, refuse_classes, with_home
from wavlm_lightning.config_stack import COMMAND_LINE, Stack, mapping_or_text
from wavlm_lightning.fields import Checked, Range, check_number, check_values, in_words

S = TypeVar("S", bound=Checked)
T = TypeVar("T")
NOT_KEYS = ("help", "config", "print_config", "print_shtab")  # the parser's own options
DEFAULT = "default"  # what set a value that nothing else did


class Resolved(NamedTuple):
    """A configuration that was read."""

    values: dict[str, Any]  # plain, nested, every key
    sections: Any  # by name: the objects of sections, and single values
    sources: dict[str, str]  # dotted key -> the file or word that set it, or "default"

    def into(self, settings: type[T], **more: Any) -> T:
        """Make a dataclass with fields for values, sources and sections.

        Args:
            settings: The dataclass; a field without a value in `more` is a section of its name, and
                has its default if there is none.
            more: Values of fields that are no sections.
        """
        fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(settings)  # type: ignore[arg-type]
        found = {f.name: self.sections[f.name] for f in fields if f.name in self.sections}
        return settings(**{"values": self.values, "sources": self.sources, **found, **more})


class Explained(NamedTuple):
    """Description of a key."""

    key: str
    type_name: str  # in words
    required: bool  # it has no default
    default: Any
    help: str


class Parser(jsonargparse.ArgumentParser):
    """A parser that raises `ConfigError` where others print their usage and exit.

    Keys are taken whole: `--optim.warmup` is not `--optim.warmup_updates`.
    """

    def __init__(self, **kwargs: Any):
        self._sections: list[tuple[str, type]] = []
        self._limits: dict[str, Range] = {}
        self._said_in: dict[str, str] = {}  # key -> file, of what is being read
        self._instead: dict[str, str] = {}
        super().__init__(allow_abbrev=False, **kwargs)

    def add_section(self, cls: type, name: str = "", **kwargs: Any) -> None:
        """Add the fields of a dataclass as keys; their values are checked under these names.

        Args:
            cls: A dataclass.
            name: What stands before the names of the fields; they are keys of the top if empty.
            kwargs: As jsonargparse's `add_class_arguments` has them.
        """
        self._sections.append((name, cls))
        self.add_class_arguments(cls, name or None, **kwargs)

    def add_number(self, name: str, limits: Range, **kwargs: Any) -> None:
        """Add a key of the top whose value lies within limits."""
        self._limits[name] = limits
        self.add_argument(f"--{name}", **kwargs)

    def add_hints(self, section: str, hints: Mapping[str, str]) -> None:
        """Say what does the work of keys that there are not.

        Args:
            section: Of these keys; "" for the top.
            hints: Name of a key -> what to do in its place.
        """
        self._instead |= {f"{section}.{name}".lstrip("."): hint for name, hint in hints.items()}

    def resolve(self, stack: Stack) -> Resolved:
        """Read a configuration in one pass.

        Raises:
            ConfigError: naming the key, what it must be, what it is, and the file that says so.
        """
        leaves = self._leaves()
        said: dict[str, Any] = {}
        sources = dict.fromkeys(leaves, DEFAULT)
        for source, key, value in stack.flattened(leaves):
            if key not in leaves and not (key in self._groups_of_keys() and not value):
                raise ConfigError(self._unknown(key) + _in_file(source))
            said[key], sources[key] = value, source
        self._said_in = {k: s for k, s in sources.items() if s not in (DEFAULT, COMMAND_LINE)}
        try:
            parsed = self.parse_object(_nested(said))
            self._expand_home(parsed)
            self._check(parsed)
            sections = self.instantiate(parsed)
        except ConfigError:
            raise
        except (ValueError, TypeError) as error:
            raise ConfigError(str(error)) from error
        return Resolved(_plain(parsed.as_dict()), sections, sources)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any
    ) -> Any:
        """Parse the options of a program that has no configuration files."""
        words = [with_home(word) for word in args or ()]
        for word in words:
            key, _, value = word.removeprefix("--").partition("=")
            refuse_classes({key: mapping_or_text(value)})
        parsed = super().parse_args(words, *rest, **kwargs)
        self._expand_home(parsed)
        self._check(parsed)
        return parsed

    def explained(self) -> list[Explained]:
        """All keys, in the order in which they were added."""
        leaves = self._leaves()
        return [
            Explained(
                key=a.dest,
                type_name=in_words(_type_of(a)),
                required=bool(a.required) and a.default is None,
                default=a.default,
                help=" ".join((a.help or "").split()),
            )
            for a in self._actions
            if a.dest in leaves
        ]

    def _groups_of_keys(self) -> set[str]:
        """Keys that other keys begin with."""
        names = [a.dest for a in self._actions if a.dest and a.dest not in NOT_KEYS]
        return {".".join(n.split(".")[:i]) for n in names for i in range(1, n.count(".") + 1)}

    def _leaves(self) -> set[str]:
        names = {a.dest for a in self._actions if a.dest and a.dest not in NOT_KEYS}
        return names - self._groups_of_keys()

    def _expand_home(self, parsed: Any) -> None:
        for key, value in parsed.items():
            if isinstance(value, str):
                parsed[key] = with_home(value)
            elif isinstance(value, list):
                parsed[key] = [with_home(v) if isinstance(v, str) else v for v in value]

    def _check(self, parsed: Any) -> None:
        """Refuse values that are of the right type and make no sense."""
        try:
            for name, cls in self._sections:
                check_values(cls, (parsed[name] if name else parsed).as_dict(), name)
            for key, limits in self._limits.items():
                check_number(key, parsed[key], limits)
        except ValueError as error:
            key = str(error).partition(" ")[0]
            raise ConfigError(f"{error}{self._where(key)}") from error

    def _where(self, key: str) -> str:
        return _in_file(self._said_in[key]) if key in self._said_in else ""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what jsonargparse found wrong, whatever it is."""
        raise ConfigError(self._explain(message)) from ex

    def _explain(self, message: str) -> str:
        if match := re.match(r"unrecognized arguments: --([\w.]+)", message):
            return self._unknown(match[1])
        if match := re.match(r'Parser key "([\w.]+)":\s*(.*)', message, re.DOTALL):
            return self._unfit(match[1], " ".join(match[2].split()))
        if match := re.match(r"the following arguments are required: (.*)", message):
            return f"not set: {match[1]}; a configuration file sets them all, --config=FILE"
        return " ".join(message.split())

    def _unfit(self, key: str, message: str) -> str:
        """What a value must be, from the type of its key."""
        types = [_type_of(a) for a in self._actions if a.dest == key]
        got = re.search(r"(?:Got value|Given value): (.*)$", message)
        if not types or types[0] is None or got is None:
            return f"{key}: {message}{self._where(key)}"
        return f"{key} must be {in_words(types[0])} (got {got[1]}){self._where(key)}"

    def _unknown(self, key: str) -> str:
        if key in self._instead:
            return f"{key} is not a configuration key: {self._instead[key]}"
        known = sorted(self._leaves() | self._groups_of_keys())
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; the nearest one is {near[0]}" if near else f"; there are {_tops(known)}"
        return f"{key} is not a configuration key{hint}"


def section_of(cls: type[S], parsed: Any) -> S:
    """A dataclass whose fields are keys of the top; those that are no keys have their defaults."""
    names = [field.name for field in dataclasses.fields(cls) if field.name in parsed]
    return cls(**{name: parsed[name] for name in names})


def _type_of(action: Any) -> Any:
    return getattr(action, "_typehint", None) or action.type


def _in_file(source: str) -> str:
    return "" if source == COMMAND_LINE else f", in {source}"


def _tops(known: list[str]) -> str:
    return ", ".join(sorted({k.split(".")[0] for k in known}))


def _plain(value: Any) -> Any:
    """Mappings and lists as YAML gives them back."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as mappings in mappings.

    >>> _nested({"a.b": 1, "a.c": 2, "d": 3})
    {'a': {'b': 1, 'c': 2}, 'd': 3}
    """
    out: dict[str, Any] = {}
    for key, value in values.items():
        *path, name = key.split(".")
        inner = out
        for part in path:
            inner = inner.setdefault(part, {})
        inner[name] = value
    return out
