# SPDX-License-Identifier: Apache-2.0
"""Layers of a configuration: which one wins, and what set each key."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wavlm_lightning import config
from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import DEFAULT, Parser
from wavlm_lightning.config_stack import COMMAND_LINE, Stack
from wavlm_lightning.fields import Checked, number


@dataclass(frozen=True, kw_only=True)
class Schedule(Checked):
    rise: float = number(0, 1, default=0.1)


@dataclass(frozen=True, kw_only=True)
class Optim(Checked):
    lr: float = number(0, 10)
    steps: int = 10
    schedule: Schedule = field(default_factory=Schedule)


def parser() -> Parser:
    parser = Parser(prog="test")
    parser.add_section(Optim, "optim")
    parser.add_argument("--scores", type=dict[str, float], default={})
    parser.add_argument("--name", type=str | None, default=None)
    return parser


def file(tmp_path: Path, name: str, text: str) -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_each_key_has_what_set_it(tmp_path: Path) -> None:
    a = file(tmp_path, "a.yaml", "optim: {lr: 1, steps: 5}\n")
    b = file(tmp_path, "b.yaml", "optim.steps: 6\nscores: {x: 1}\n")
    words = [f"--config={a}", f"--config={b}", "--optim.lr=2"]
    resolved = parser().resolve(Stack.of_overrides(words))
    assert resolved.values["optim"] == {"lr": 2.0, "steps": 6, "schedule": {"rise": 0.1}}
    assert resolved.values["scores"] == {"x": 1.0}
    assert resolved.sources == {
        "optim.lr": COMMAND_LINE,
        "optim.steps": b,
        "optim.schedule.rise": DEFAULT,
        "scores": b,
        "name": DEFAULT,
    }


@pytest.mark.parametrize(
    ("words", "steps"), [(["FILE", "--optim.steps=7"], 7), (["--optim.steps=7", "FILE"], 5)]
)
def test_the_later_of_a_file_and_a_word_wins(tmp_path: Path, words: list[str], steps: int) -> None:
    a = file(tmp_path, "a.yaml", "optim: {lr: 1, steps: 5}\n")
    words = [f"--config={a}" if word == "FILE" else word for word in words]
    assert parser().resolve(Stack.of_overrides(words)).sections.optim.steps == steps


def test_a_section_may_be_said_as_a_whole_and_in_parts() -> None:
    words = ["--optim={lr: 1, schedule: {rise: 0.5}}", "--optim.schedule.rise", "0.25"]
    optim = parser().resolve(Stack.of_overrides(words)).sections.optim
    assert (optim.lr, optim.steps, optim.schedule.rise) == (1.0, 10, 0.25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {lr: -1}", "optim.lr must be at least 0 and at most 10 (got -1.0), in "),
        ("optim: {lr: fast}", "optim.lr must be a number (got fast), in "),
        ("optim: {lr: 1, stepps: 1}", "stepps is not a configuration key; the nearest one is "),
        ("optim: {lr: 1, schedule: {rise: 2}}", "optim.schedule.rise must be at least 0 and at "),
    ],
)
def test_what_is_wrong_in_a_file_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    first = file(tmp_path, "a.yaml", "optim: {lr: 1}\n")
    second = file(tmp_path, "b.yaml", text)
    with pytest.raises(ConfigError) as caught:
        parser().resolve(Stack().plus_file(Path(first)).plus_file(Path(second)))
    assert message in str(caught.value)
    assert str(caught.value).endswith(f", in {second}")


def test_a_word_that_replaces_a_wrong_value_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    a = file(tmp_path, "a.yaml", "optim: {lr: 1}\n")
    with pytest.raises(ConfigError) as caught:
        parser().resolve(Stack.of_overrides([f"--config={a}", "--optim.lr=fast"]))
    assert str(caught.value) == "optim.lr must be a number (got fast)"


def test_what_is_taken_out_is_merged_and_left_out() -> None:
    stack = Stack().plus("a", {"mini": {"x": 1, "y": 1}, "seed": 0}).plus("b", {"mini": {"y": 2}})
    left, (mini, large) = stack.take("mini", "large")
    assert (mini, large) == ({"x": 1, "y": 2}, {})
    assert left.get("seed") == 0
    assert left.get("mini") is None
    with pytest.raises(ConfigError, match="mini must be a mapping"):
        Stack().plus("a", {"mini": 3}).take("mini")


def test_get_sees_nested_dotted_and_said_values() -> None:
    stack = Stack().plus("a", {"a": {"b": {"c": 1}}}).plus("b", {"a.b": {"d": 2}})
    stack += Stack.of_overrides(["--a.e={f: 3}", "--g=null", "--h=~/x"])
    assert [stack.get(f"a.{key}") for key in ("b.c", "b.d", "e.f")] == [1, 2, 3]
    assert stack.plus("c", {"a": {"b": {"c": 4}}}).get("a.b.c") == 4
    assert stack.get("g", 5) is None
    assert stack.get("h") == str(Path("~/x").expanduser())
    assert stack.get("i", 5) == 5


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lr=1", "an argument must be --key=value (got lr=1)"),
        ("--lr", "--lr has no value: --lr=VALUE"),
    ],
)
def test_other_words_are_refused(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Stack.of_overrides([word])
    assert str(caught.value) == said


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, load = [], config.yaml.safe_load
    monkeypatch.setattr(config.yaml, "safe_load", lambda text: read.append(text) or load(text))
    a = file(tmp_path, "a.yaml", "optim: {lr: 1}\n")
    stack = Stack.of_overrides([f"--config={a}"])
    assert stack.get("optim.lr") == 1
    assert len([text for text in read if text == "optim: {lr: 1}\n"]) == 1
