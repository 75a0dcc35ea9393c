# SPDX-License-Identifier: Apache-2.0
"""Files are whole or not there, whatever happens while they are written."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from wavlm_lightning.checkpoint_file import DamagedFileError, read_checkpoint, write_checkpoint
from wavlm_lightning.files import (
    previous_of,
    read_json,
    read_text,
    remove_parts,
    replacing,
    write_text,
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB; skipped where a test may not mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs rights that this user has not")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyError("as if it failed")

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_file_before_is_kept_under_a_second_name(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for text in ("first", "second", "third"):
        with replacing(path, keep_previous=True) as temporary:
            temporary.write_text(text)
    assert path.read_text() == "third"
    assert previous_of(path).read_text() == "second"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "last.previous.ckpt"]


def test_without_links_the_file_before_is_kept_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "last.ckpt"
    for text in ("first", "second"):
        with replacing(path, keep_previous=True) as temporary:
            temporary.write_text(text)
    assert (path.read_text(), previous_of(path).read_text()) == ("second", "first")


def test_nothing_is_moved_between_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever temporary files are, a rename between two folders is never asked for."""
    real = os.replace

    def within_a_folder(source: Path, target: Path) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(os, "replace", within_a_folder)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    write_checkpoint(tmp_path / "last.ckpt", {"a": torch.ones(2)})
    write_text(tmp_path / "a.txt", "a")
    assert read_checkpoint(tmp_path / "last.ckpt")["a"].tolist() == [1.0, 1.0]


def test_a_full_disk_leaves_the_checkpoint_before(small_disk: Path) -> None:
    path = small_disk / "last.ckpt"
    write_checkpoint(path, {"a": torch.arange(1000)}, keep_previous=True)
    with pytest.raises(OSError, match=r"last\.ckpt cannot be written: .*MB free"):
        write_checkpoint(path, {"a": torch.ones(10**6)}, keep_previous=True)
    assert torch.equal(read_checkpoint(path)["a"], torch.arange(1000))
    assert [p.name for p in small_disk.iterdir()] == ["last.ckpt"]


def test_what_a_kill_left_behind_is_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".last.ckpt.123.part").write_bytes(b"half")
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"whole")
    assert [p.name for p in remove_parts(tmp_path)] == [".last.ckpt.123.part"]
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


CONTENT = {"weights": torch.arange(5000, dtype=torch.float32), "step": 7}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda b: b[: len(b) // 2], "cut off or damaged"),
        (lambda b: b"", "it is empty"),
        (lambda b: bytes(len(b)), "begins with zeros"),
        (lambda b: b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (lambda b: b"RIFF" + b, "no file of torch"),
    ],
    ids=["cut", "empty", "zeroed", "pointer", "foreign"],
)
def test_a_damaged_checkpoint_is_one_line_with_its_name(
    tmp_path: Path, damage: object, reason: str
) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, CONTENT)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DamagedFileError, match=rf"last\.ckpt cannot be read: .*{reason}") as caught:
        read_checkpoint(path)
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_content_that_is_not_what_was_written_is_refused(tmp_path: Path) -> None:
    """As if another program had changed the file and kept its form."""
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, CONTENT)
    content = torch.load(path, weights_only=True)
    content["weights"][17] += 1
    torch.save(content, path)
    with pytest.raises(DamagedFileError, match="does not have its hash"):
        read_checkpoint(path)


def test_equal_contents_are_equal_files(tmp_path: Path) -> None:
    """Whether texts and lists are shared objects depends on a run's past."""
    name = "".join(["a", "b"])
    shared = [1, 2]
    write_checkpoint(tmp_path / "a", {"x": ["ab", name], "y": shared, "z": shared})
    write_checkpoint(tmp_path / "b", {"x": ["ab", "ab"], "y": [1, 2], "z": [1, 2]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("ü\n".encode("utf-16"), "a.txt is in UTF-16: save it as UTF-8"),
        (b"one\ntwo \xfc\n", "a.txt, line 2, is not UTF-8"),
    ],
)
def test_a_text_in_another_encoding_is_named(tmp_path: Path, content: bytes, wanted: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=wanted):
        read_text(tmp_path / "a.txt")


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf\xc3\xbc")
    assert read_text(tmp_path / "a.txt") == "ü"


def test_json_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        read_json(tmp_path / "config.json")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing\.json"):
        read_json(tmp_path / "nothing.json")
