# SPDX-License-Identifier: Apache-2.0
"""Any name from data is a plain file name and a plain field, and can be had back."""

import pytest

from wavlm_lightning.names import (
    INDEX,
    MAX_BYTES,
    original_name,
    safe_field,
    safe_name,
    write_index,
)

ODD = [
    "a/b", "../../x", "..", ".", "-rf", "my call 3", "x" * 300, "日本語の話者", "日" * 200, "", "%",
    "a%2Fb", "con\x00", "tab\there", "line\nbreak", "é", "e\u0301", "(name)", "a~b", " ",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_a_name_stays_in_its_folder_and_can_be_had_back(text: str) -> None:
    name = safe_name(text)
    assert name
    assert "/" not in name
    assert "\0" not in name
    assert not name.startswith((".", "-"))
    assert len(name.encode()) <= MAX_BYTES
    index = {name: text} if "~" in name else None
    assert original_name(name, index) == text


def test_different_names_stay_different() -> None:
    assert len({safe_name(text) for text in ODD}) == len(ODD)
    assert safe_name("x" * 300) != safe_name("x" * 301)


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_a_field_has_no_blanks_and_can_be_had_back(text: str) -> None:
    field = safe_field(text)
    assert len(field.split()) == 1
    assert not set("()") & set(field)
    assert original_name(field) == text


def test_plain_names_are_themselves() -> None:
    for text in ("id10270-5r0dWxy17C8-00001", "103_1034_0001", "Sänger.v2"):
        assert safe_name(text) == safe_field(text) == text


def test_an_index_says_what_cut_names_stand_for(tmp_path) -> None:  # type: ignore[no-untyped-def]
    write_index(tmp_path, ["plain"])
    assert not (tmp_path / INDEX).exists()
    write_index(tmp_path, ["plain", "x" * 300])
    rows = dict(line.split("\t") for line in (tmp_path / INDEX).read_text().splitlines()[1:])
    assert rows[safe_name("x" * 300)] == "x" * 300
