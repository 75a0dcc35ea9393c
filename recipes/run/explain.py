# SPDX-License-Identifier: Apache-2.0
"""A configuration and its keys in lines: `--print_config`, `make config` and `--help`."""

from collections.abc import Mapping
from typing import Any

import yaml

from wavlm_lightning.config import flat
from wavlm_lightning.config_parser import DEFAULT, Parser
from wavlm_lightning.config_stack import Stack

PRINT, HELP = "--print_config", "--help"


def config_text(values: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """One key a line: its value, and the file or word that set it.

    >>> print(config_text({"optim": {"lr": 0.1}, "seed": 0}, {"optim.lr": "a.yaml"}))
    optim.lr  0.1  # a.yaml
    seed      0    # default
    """
    rows = [
        (key, yaml_of(value), f"# {sources.get(key, DEFAULT)}")
        for key, value in flat(values).items()
    ]
    return _aligned(rows)


def yaml_of(value: Any) -> str:
    """A value as YAML and the command line have it.

    >>> [yaml_of(value) for value in (None, True, 1e-06, [0.9, 0.98], "a", {})]
    ['null', 'true', '1.0e-06', '[0.9, 0.98]', 'a', '{}']
    """
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("...").strip()


def help_text(about: str, parser: Parser, stack: Stack) -> str:
    """What a program does, and all keys that it takes.

    Args:
        about: Docstring of the program.
        parser: Its keys.
        stack: What files and the command line say; what they are silent about has its default.
    """
    said, leaves = dict[str, tuple[str, Any]](), {row.key for row in parser.explained()}
    for source, key, value in stack.flattened(leaves):
        said[key] = source, value
    parts, section = [about.strip()], None
    for row in parser.explained():
        head = row.key.rpartition(".")[0]
        if head != section:
            parts.append("")
            section = head
        source, value = said.get(row.key, (DEFAULT, row.default))
        shown = value if isinstance(value, str) else yaml_of(plain_value(value))
        if row.required and source == DEFAULT:
            shown = "must be set"
        where = "" if source == DEFAULT else f", from {source}"
        parts.append(f"--{row.key}={shown}  ({row.type_name}{where})")
        if row.help:
            parts.append(f"    {row.help}")
    return "\n".join(parts)


def plain_value(value: Any) -> Any:
    """A default without objects, as YAML writes it."""
    if hasattr(value, "as_dict"):
        return value.as_dict()
    return list(value) if isinstance(value, tuple) else value


def _aligned(rows: list[tuple[str, str, str]]) -> str:
    """Columns of equal width; a long value does not push the others aside."""
    first = max(len(row[0]) for row in rows)
    second = min(max(len(row[1]) for row in rows), 40)
    return "\n".join(f"{a:<{first}}  {b:<{second}}  {c}" for a, b, c in rows)
