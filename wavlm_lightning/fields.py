# SPDX-License-Identifier: Apache-2.0
"""What the values of a configuration may be, said beside each field and checked in one place.

    @dataclass(frozen=True, kw_only=True)
    class OptimConfig(Checked):
        lr: float = number(0, 10, above=True)
        total_updates: int = whole(1)

The reader of configuration checks every section with the names of its keys, before anything is
built; an object made in Python, or from a file of weights, checks itself.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

KEY = "range"  # in the metadata of a field
MOST = 10**9  # of a count that nothing else limits


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; both belong to it unless said otherwise."""

    low: float
    high: float
    above: bool = False  # low itself does not
    below: bool = False  # high itself does not

    def holds(self, value: float) -> bool:
        """Whether a number is in it; NaN never is."""
        if math.isnan(value):
            return False
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        """The range in words.

        >>> str(Range(0, 1, above=True)), str(Range(1, MOST))
        ('above 0 and at most 1', 'at least 1 and at most 1000000000')
        """
        low = f"{'above' if self.above else 'at least'} {_plain(self.low)}"
        return f"{low} and {'below' if self.below else 'at most'} {_plain(self.high)}"


SEEDS = Range(0, 2**63 - 1)


def number(
    low: float, high: float, *, above: bool = False, below: bool = False, default: Any = MISSING
) -> Any:
    """A dataclass field whose value, or each of whose values, lies between two numbers.

    Args:
        low: The smallest value.
        high: The largest value.
        above: `low` itself is not allowed.
        below: `high` itself is not allowed.
        default: Of the field; None is allowed where the field's type allows it.
    """
    return dataclasses.field(default=default, metadata={KEY: Range(low, high, above, below)})


def whole(low: int, high: int = MOST, *, default: Any = MISSING) -> Any:
    """The same for counts."""
    return number(low, high, default=default)


def seed(*, default: Any = MISSING) -> Any:
    """The same for seeds."""
    return dataclasses.field(default=default, metadata={KEY: SEEDS})


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Base of dataclasses that refuse values that do not fit, however they are made."""

    def __post_init__(self) -> None:
        check_values(type(self), vars(self))


def check_values(cls: type, values: Mapping[str, Any], section: str = "") -> None:
    """Check the fields of a dataclass, and of the dataclasses in it, before it is made.

    Args:
        cls: The dataclass.
        values: Of its fields, by name; nested ones as mappings or as objects.
        section: What stands before the names in messages, such as "optim".

    Raises:
        ValueError: naming the key, what it may be, and what it is.
    """
    types = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name not in values:
            continue
        key = f"{section}.{field.name}" if section else field.name
        value, wanted = values[field.name], types[field.name]
        inner = nested(wanted)
        if inner is not None and value is not None:
            check_values(inner, value if isinstance(value, Mapping) else vars(value), key)
        elif not _is(value, wanted):
            raise ValueError(f"{key} must be {in_words(wanted)} (got {value!r})")
        check_number(key, value, field.metadata.get(KEY))


def check_number(key: str, value: Any, limits: Range | None) -> None:
    """Refuse a number, or a list of them, that is out of range.

    Raises:
        ValueError: naming the key, what it may be, and what it is.
    """
    if limits is None:
        return
    if isinstance(value, list | tuple) and not value:
        raise ValueError(f"{key} must hold at least one number (got none)")
    if not all(map(limits.holds, _numbers(value))):
        raise ValueError(f"{key} must be {limits} (got {value})")


def nested(wanted: Any) -> type | None:
    """The dataclass that a field's type is, or that it is beside None."""
    for option in get_args(wanted) or (wanted,):
        if dataclasses.is_dataclass(option) and isinstance(option, type):
            return option
    return None


def _is(value: Any, wanted: Any) -> bool:
    """Whether a value is of a type; types that configurations do not have are not looked at."""
    inner, origin = get_args(wanted), get_origin(wanted)
    if origin in (Union, UnionType):
        return any(_is(value, option) for option in inner)
    if origin is Literal:
        return value in inner
    if origin in (list, tuple):
        items = isinstance(value, list | tuple)
        return items and all(_is(item, inner[0]) for item in value)
    if wanted in (int, float):
        return isinstance(value, (int, wanted)) and not isinstance(value, bool)
    return wanted not in (bool, str, NoneType) or isinstance(value, wanted)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return []
    if isinstance(value, list | tuple):
        return [one for item in value for one in _numbers(item)]
    return [value]


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def in_words(wanted: Any) -> str:
    """A type in plain words.

    >>> in_words(float | None), in_words(tuple[float, float]), in_words(list[str])
    ('a number or null', 'a list of 2 numbers', 'a list of texts')
    """
    if wanted in _WORDS:
        return _WORDS[wanted]
    inner: Sequence[Any] = get_args(wanted)
    if get_origin(wanted) is Literal:
        return inner[0] if len(inner) == 1 else f"one of {', '.join(map(str, inner))}"
    if get_origin(wanted) in (Union, UnionType):
        return " or ".join(map(in_words, inner))
    if get_origin(wanted) is tuple and Ellipsis not in inner:
        return f"a list of {len(inner)} {_plural(in_words(inner[0]))}"
    if get_origin(wanted) in (list, tuple) and inner:
        return f"a list of {_plural(in_words(inner[0]))}"
    return "a mapping" if get_origin(wanted) is dict else f"a {getattr(wanted, '__name__', wanted)}"


_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    type(None): "null",
    dict: "a mapping",
}


def _plural(words: str) -> str:
    return words.removeprefix("a ") + "s" if words.startswith("a ") else words
