# SPDX-License-Identifier: Apache-2.0
"""What numbers of a configuration may be, said beside each field and checked in one place.

    @dataclass(frozen=True, kw_only=True)
    class OptimConfig(Checked):
        lr: float = number(0, 10)
        clip: float = number(0, default=0.0)

The reader of configuration checks every section with the names of its keys, before anything is
built; an object made in Python checks itself.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any, get_args, get_type_hints

KEY = "range"  # in the metadata of a field


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; both belong to it unless said otherwise."""

    low: float
    high: float
    above: bool  # low itself does not
    below: bool  # high itself does not

    def holds(self, value: float) -> bool:
        """Whether a number is in it; NaN never is."""
        if math.isnan(value):
            return False
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        """In words.

        >>> str(Range(0, 1, above=True, below=False)), str(Range(1, math.inf, False, False))
        ('above 0 and at most 1', 'at least 1')
        """
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        high = f"{'below' if self.below else 'at most'} {self.high:g}"
        return low if math.isinf(self.high) else f"{low} and {high}"


def number(
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    default: Any = MISSING,
) -> Any:
    """A dataclass field whose value, or each of whose values, lies between two numbers.

    Args:
        low: The smallest value.
        high: The largest value; an infinite one is never allowed.
        above: `low` itself is not allowed.
        below: `high` itself is not allowed.
        default: Of the field; None is allowed where the field's type allows it.
    """
    limits = Range(low, high, above, below or math.isinf(high))
    return dataclasses.field(default=default, metadata={KEY: limits})


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Base of dataclasses that refuse numbers out of range, however they are made."""

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
        value, inner = values[field.name], nested(types[field.name])
        if inner is not None and value is not None:
            check_values(inner, value if isinstance(value, Mapping) else vars(value), key)
        limits: Range | None = field.metadata.get(KEY)
        if limits is not None and not all(map(limits.holds, _numbers(value))):
            raise ValueError(f"{key} must be {limits} (got {value})")


def nested(wanted: Any) -> type | None:
    """The dataclass that a field's type is, or that it is beside None."""
    for option in get_args(wanted) or (wanted,):
        if dataclasses.is_dataclass(option) and isinstance(option, type):
            return option
    return None


def _numbers(value: Any) -> list[float]:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return []
    if isinstance(value, list | tuple):
        return [one for item in value for one in _numbers(item)]
    return [value]
