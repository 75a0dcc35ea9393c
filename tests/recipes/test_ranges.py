# SPDX-License-Identifier: Apache-2.0
"""Every numeric key of every program has a range; numbers out of it are refused by name."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

import wavlm_lightning.recipes.pretrain.settings as settings
import wavlm_lightning.recipes.superb.settings as task_settings
from wavlm_lightning.config import ConfigError, flat
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.config_stack import Stack
from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.fields import KEY, Range, nested
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.recipes.finetune.settings import finetune_parser
from wavlm_lightning.recipes.pretrain.labels import build_parser as labels_parser
from wavlm_lightning.recipes.pretrain.manifest import build_parser as manifest_parser

from .conftest import CONFIG

pytestmark = pytest.mark.bad_input

PRETRAIN, FINETUNE, MANIFEST, LABELS = "pretrain", "finetune", "manifest", "labels"
PROGRAMS = [PRETRAIN, FINETUNE, MANIFEST, LABELS, *task_names()]
CONFIGS = Path(__file__).parent.parent.parent / "configs"
# Names or numbers, which have checks of their own.
NO_RANGE = ("trainer.devices", "trainer.precision")
VALUES = ["0", "-1", "nan", "inf", "1e30", str(10**30), "-0.5"]


def parser_of(program: str, tmp_path: Path) -> tuple[Parser, list[str]]:
    """The parser of a program, and words that it takes."""
    if program == PRETRAIN:
        config = tmp_path / "tiny.yaml"
        config.write_text(CONFIG)
        return settings.build_parser(WavLMConfig.mini()), [f"--config={config}", "--data.root=x"]
    if program == FINETUNE:
        reading = task_settings.read_files("ctc", "random", [], [CONFIGS / "finetune/ctc.yaml"])
        words = [f"--config={CONFIGS / 'finetune/ctc.yaml'}", "--upstream.kind=fbank"]
        words += ["--task.train=[train-clean-100]", "--optim.lr=1", "--optim.total_updates=20000"]
        return finetune_parser(reading, WavLMConfig.mini()), words
    if program == MANIFEST:
        return manifest_parser(), ["--root=x", "--out=y"]
    if program == LABELS:
        return labels_parser(), ["--root=x", "--out=y", "--features=mfcc", "--num_clusters=5"]
    words = [f"--config={CONFIGS / 'superb' / program}.yaml", "--upstream.kind=fbank"]
    return task_settings.build_parser(load_task(program)), words


def is_number(wanted: Any) -> bool:
    """Whether a type is a number, a list of numbers, or may be either."""
    if get_origin(wanted) in (Union, UnionType, list, tuple):
        return any(map(is_number, get_args(wanted)))
    return wanted in (int, float)


def keys(cls: type, prefix: str) -> Iterator[tuple[str, Any, Range | None]]:
    """Numeric fields of a section and of the sections in it: key, type, range."""
    for field in dataclasses.fields(cls):
        wanted, key = get_type_hints(cls)[field.name], f"{prefix}{field.name}"
        if (inner := nested(wanted)) is not None:
            yield from keys(inner, f"{key}.")
        elif is_number(wanted):
            yield key, wanted, field.metadata.get(KEY)


def numeric_keys(parser: Parser) -> dict[str, tuple[Any, Range | None]]:
    """All numeric keys that a program takes."""
    found: dict[str, tuple[Any, Range | None]] = {}
    for name, cls in parser._sections:
        for key, wanted, limits in keys(cls, f"{name}." if name else ""):
            if key not in NO_RANGE:
                found[key] = wanted, limits
    for action in parser._actions:
        if "." not in action.dest and is_number(getattr(action, "_typehint", None) or action.type):
            found.setdefault(action.dest, (action.type, parser._limits.get(action.dest)))
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_number_has_a_range(program: str, tmp_path: Path) -> None:
    parser, _ = parser_of(program, tmp_path)
    found = numeric_keys(parser)
    assert len(found) > (2 if program in (MANIFEST, LABELS) else 10)
    assert [key for key, (_, limits) in found.items() if limits is None] == []


def stack_of(words: list[str]) -> Stack:
    """Without what programs take out of the files of tasks."""
    return Stack.of_overrides(words).take(*task_settings.OVERLAYS)[0]


def word_of(value: str, wanted: Any) -> str:
    if get_origin(wanted) is tuple:
        return f"[{', '.join([value] * len(get_args(wanted)))}]"
    if list in (get_origin(option) for option in (wanted, *get_args(wanted))):
        return f"[{value}]"
    return value


def outcome(parser: Parser, words: list[str]) -> tuple[str, Any]:
    """What a parser says of words, and what it makes of them if they are good."""
    try:
        return "", flat(parser.resolve(stack_of(words)).values)
    except ConfigError as error:
        return str(error), None


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_number_that_makes_no_sense_is_refused_by_its_key(program: str, tmp_path: Path) -> None:
    parser, words = parser_of(program, tmp_path)
    parser.resolve(stack_of(words))  # they are good as they are
    refused, numbers_of = 0, numeric_keys(parser)
    if program in task_names()[1:]:  # the rest is the same for each task
        numbers_of = {key: found for key, found in numbers_of.items() if key.startswith("task.")}
    for key, (wanted, limits) in numbers_of.items():
        assert limits is not None
        for value in VALUES:
            said, parsed = outcome(parser, [*words, f"--{key}={word_of(value, wanted)}"])
            if parsed is None:
                assert said.startswith(f"{key} must be")
                assert len(said.splitlines()) == 1
                refused += 1
                continue
            numbers = parsed[key] if isinstance(parsed[key], list | tuple) else [parsed[key]]
            assert numbers
            assert all(limits.holds(number) for number in numbers), (key, value)
    assert refused >= 3 * len(numbers_of)
