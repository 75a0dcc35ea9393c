# SPDX-License-Identifier: Apache-2.0
"""Configuration: files and words merge, and an error says what to change."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from wavlm_lightning.config import ConfigError, flat
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.config_stack import Stack


@dataclass(frozen=True, kw_only=True)
class Optim:
    lr: float
    steps: int = 10
    name: Literal["adam", "sgd"] = "adam"
    betas: tuple[float, float] = (0.9, 0.98)
    noise: str | None = None


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="test")
    parser.add_class_arguments(Optim, "optim")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def read(parser: Parser, *words: str) -> Any:
    return parser.resolve(Stack.of_overrides(words)).sections


def message(parser: Parser, *words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(parser, *words)
    return str(caught.value)


def yaml(tmp_path: Path, text: str, name: str = "a.yaml") -> str:
    (tmp_path / name).write_text(text)
    return f"--config={tmp_path / name}"


def test_later_file_and_word_win(parser: Parser, tmp_path: Path) -> None:
    first = yaml(tmp_path, "optim: {lr: 0.1, steps: 5}\nseed: 1\n")
    second = yaml(tmp_path, "optim: {steps: 7}\n", "b.yaml")
    parsed = read(parser, first, second, "--seed=3")
    assert (parsed.optim.lr, parsed.optim.steps, parsed.seed) == (0.1, 7, 3)


@pytest.mark.parametrize("spelling", ["1e-3", "1e-03", "0.001"])
def test_number_in_yaml_is_a_number(parser: Parser, tmp_path: Path, spelling: str) -> None:
    parsed = parser.resolve(
        Stack.of_overrides([yaml(tmp_path, f"optim: {{lr: {spelling}}}\n")])
    ).sections
    assert parsed.optim.lr == 0.001


@pytest.mark.parametrize(
    ("word", "unknown", "known"),
    [
        ("--optim.learning=1", "optim.learning", ""),
        ("--optim.setps=1", "optim.setps", "optim.steps"),
        ("--optm.lr=1", "optm.lr", "optim.lr"),
        ("--sed=1", "sed", "seed"),
    ],
)
def test_unknown_word_names_the_nearest_key(
    parser: Parser, word: str, unknown: str, known: str
) -> None:
    found = message(parser, "--optim.lr=1", word)
    assert found.startswith(f"{unknown} is not a configuration key; the nearest one is {known}")


@pytest.mark.parametrize(
    ("text", "unknown", "known"),
    [
        ("optim: {lr: 1, step: 1}", "optim.step", "optim.steps"),
        ("optim: {lr: 1}\nsed: 1", "sed", "seed"),
    ],
)
def test_unknown_key_of_a_file_names_the_nearest_key(
    parser: Parser, tmp_path: Path, text: str, unknown: str, known: str
) -> None:
    found = message(parser, yaml(tmp_path, text))
    assert f"{unknown} is not a configuration key; the nearest one is {known}" in found


def test_abbreviated_key_is_unknown(parser: Parser) -> None:
    found = message(parser, "--optim.lr=1", "--optim.st=1")
    assert found.startswith("optim.st is not a configuration key")


def test_key_far_from_all_others_names_the_sections(parser: Parser) -> None:
    found = message(parser, "--optim.lr=1", "--zzzzzzzzzz=1")
    assert found.startswith("zzzzzzzzzz is not a configuration key; there are optim, ")
    assert found.endswith(", seed")


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("--optim.lr=fast", ("optim.lr must be a number (got fast)",)),
        ("--optim.steps=1.5", ("optim.steps must be a whole number (got 1.5)",)),
        ("--optim.name=lion", ("optim.name must be one of adam, sgd (got lion)",)),
        ("--optim.betas=[0.9]", ("optim.betas must be a list of 2 numbers", "[0.9]")),
        ("--seed=x", ("seed must be a whole number (got x)",)),
    ],
)
def test_wrong_value_names_key_wanted_and_got(
    parser: Parser, word: str, parts: tuple[str, ...]
) -> None:
    found = message(parser, "--optim.lr=1", word)
    assert found.startswith(parts[0])
    assert all(part in found for part in parts)


def test_wrong_value_of_a_file_names_the_key(parser: Parser, tmp_path: Path) -> None:
    found = message(parser, yaml(tmp_path, "optim: {lr: fast}"))
    assert "optim.lr" in found
    assert "fast" in found


def test_missing_key_is_named(parser: Parser) -> None:
    assert "optim.lr" in message(parser)


def test_missing_file_is_named(parser: Parser) -> None:
    assert "nowhere.yaml" in message(parser, "--config=nowhere.yaml")


@pytest.mark.parametrize("word", ["--optim.lr=fast", "--optm.lr=1", "--config=nowhere.yaml"])
def test_message_is_one_line(parser: Parser, word: str) -> None:
    assert "\n" not in message(parser, word)


def test_message_on_broken_yaml_is_one_line(parser: Parser, tmp_path: Path) -> None:
    assert "\n" not in message(parser, yaml(tmp_path, "optim: [\nlr: }\n"))


def test_message_on_broken_yaml_names_the_file(parser: Parser, tmp_path: Path) -> None:
    assert "a.yaml" in message(parser, yaml(tmp_path, "optim: [\nlr: }\n"))


def test_flat_joins_keys_with_dots() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [{"f": 2}], "g": {}}
    assert flat(nested) == {"a.b.c": 1, "a.d": None, "e": [{"f": 2}], "g": {}}


@pytest.mark.parametrize(
    "word",
    [
        "--optim.class_path=antigravity",
        "--optim.name.class_path=antigravity",
        "--optim.betas={class_path: antigravity}",
        "--optim={lr: 1, init_args: {}}",
    ],
)
def test_no_class_is_loaded_from_a_word(parser: Parser, word: str) -> None:
    assert "classes are not loaded from configuration" in message(parser, "--optim.lr=1", word)
    assert "antigravity" not in sys.modules


def test_no_class_is_loaded_from_a_file(parser: Parser, tmp_path: Path) -> None:
    text = "optim: {lr: 1, betas: [{class_path: antigravity}]}"
    found = message(parser, yaml(tmp_path, text))
    assert "a.yaml: optim.betas.0.class_path: classes are not loaded" in found
    assert "antigravity" not in sys.modules


@dataclass(frozen=True, kw_only=True)
class Folders:
    root: str | None = None
    folders: list[str] = field(default_factory=list)
    source: str | None = None


def test_the_home_folder_is_meant_by_a_tilde_wherever_a_path_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = Parser(prog="test")
    parser.add_section(Folders, "data")
    parser.add_argument("--out", type=str)
    text = "data: {source: ~/m.pt, folders: [~/a, b~/c]}\n"
    yaml(tmp_path, text)
    parsed = parser.resolve(
        Stack.of_overrides(["--config=~/a.yaml", "--data.root=~/x", "--out=~/o"])
    ).sections
    assert parsed.data.root == str(tmp_path / "x")
    assert parsed.data.source == str(tmp_path / "m.pt")
    assert parsed.data.folders == [str(tmp_path / "a"), "b~/c"]
    assert parsed.out == str(tmp_path / "o")
