# SPDX-License-Identifier: Apache-2.0
"""The same sound in two lists is found, under whatever names."""

import os
import shutil
from pathlib import Path

import pytest

from wavlm_lightning.same_recordings import Span, shared


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    (tmp_path / "link").symlink_to("a")
    os.link(tmp_path / "a", tmp_path / "hard")
    shutil.copy(tmp_path / "a", tmp_path / "copy")
    return tmp_path


@pytest.mark.parametrize("name", ["a", "link", "hard", "copy"])
def test_one_recording_under_any_name(files: Path, name: str) -> None:
    first = [Span(files / "b", 0, 9), Span(files / "a", 0, 9)]
    assert shared(first, [Span(files / "c", 0, 9), Span(files / name, 0, 9)]) == [1]


def test_other_recordings_and_other_parts_are_not_shared(files: Path) -> None:
    assert shared([Span(files / "a", 0, 9)], [Span(files / "b", 0, 9)]) == []
    parts = [Span(files / "a", 0, 9), Span(files / "a", 9, 20)]
    assert shared(parts, [Span(files / "copy", 9, 12)]) == [1]
    assert shared([Span(files / "gone", 0, 9)], [Span(files / "a", 0, 9)]) == []


def test_contents_of_long_lists_are_not_read(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavlm_lightning.same_recordings.MOST_HASHED", 1)
    first = [Span(files / "a", 0, 9)]
    assert shared(first, [Span(files / "copy", 0, 9)]) == []
    assert shared(first, [Span(files / "hard", 0, 9)]) == [0]
