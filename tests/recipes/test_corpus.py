# SPDX-License-Identifier: Apache-2.0
"""An official corpus is checked part by part, against patterns that our readers' layouts fulfil."""

import hashlib
from pathlib import Path

import pytest

from wavlm_lightning.config import read_yaml
from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.recipes.corpus import FILE, main, parts_of
from wavlm_lightning.recipes.mini import superb_corpus
from wavlm_lightning.shipped import config_file

KNOWN = read_yaml(config_file(FILE))
SMALL = """
books:
  about: a library, by request
  parts:
    left: {files: 'left/*.wav', count: 2, needs: [er]}
    right: {files: 'right/*.wav', needs: [er, ks]}
    list: {files: list.txt, count: 1, lines: 3, needs: [ks], from: 'https://example.org/list.txt'}
  archives:
    left: {url: 'https://example.org/left.tgz', sha256: HASH}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of corpora of its own; the corpus in it is complete."""
    (tmp_path / "configs").mkdir()
    digest = hashlib.sha256(b"archive").hexdigest()
    (tmp_path / "configs" / FILE).write_text(SMALL.replace("HASH", digest))
    root = tmp_path / "books"
    for name in ("left/a.wav", "left/b.wav", "left/._a.wav", "right/c.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "list.txt").write_text("1\n2\n3\n")
    monkeypatch.chdir(tmp_path)
    return root


def check(*words: str) -> int:
    return main(["--name=books", "--dir=books", *words])


def test_a_complete_corpus_is_said_to_be_one(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check() == 0
    said = capsys.readouterr().out
    assert "left               2 files  [er]" in said
    assert said.splitlines()[-1] == "next: wavlm superb TASK=er paths.books=books"
    assert check("--task=ks") == 0
    assert "left" not in capsys.readouterr().out


def test_what_is_missing_is_said_with_the_command_that_fetches_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "left" / "b.wav").unlink()
    (place / "list.txt").write_text("1\n2\n")
    assert check() == 1
    said = capsys.readouterr().out
    assert "1 files, 2 are wanted (left/*.wav)" in said
    assert "list.txt has 2 lines, 3 are wanted" in said
    assert "curl -L -C - -o left.tgz https://example.org/left.tgz" in said
    assert "curl -L -C - -o books/list.txt https://example.org/list.txt" in said
    assert "complete" not in said
    (place / "right" / "c.wav").unlink()
    (place / "left" / "b.wav").touch()
    (place / "list.txt").write_text("1\n2\n3\n")
    assert check() == 1
    said = capsys.readouterr().out
    assert "right              missing (some of right/*.wav)" in said
    assert said.splitlines()[-1] == "to get it: a library, by request"


def test_archives_are_hashed_when_asked_for(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = place.parent / "left.tgz"
    archive.write_bytes(b"archive")
    assert check("--hashes=true") == 0
    archive.write_bytes(b"half of it")
    assert check() == 0
    capsys.readouterr()
    assert check("--hashes=true") == 1
    assert "left.tgz has another SHA-256 than published" in capsys.readouterr().out


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--name=pens", "--dir=books"], "name must be one of books (got pens)"),
        (["--name=books", "--dir=nothing"], "dir must be the folder of books (got nothing)"),
        (["--name=books", "--dir=books", "--task=sd"], "task must be one of er, ks (got sd)"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], error: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    assert capsys.readouterr().err.startswith(f"error: {error}")


def test_every_corpus_of_a_task_is_known_with_what_the_task_needs() -> None:
    for name in task_names():
        corpus = load_task(name).corpus
        assert corpus in KNOWN
        assert any(name in part.needs for part in parts_of(KNOWN[corpus], "")), name
    tasks = {*task_names(), *task_names("finetuning"), "pretrain"}
    for about in KNOWN.values():
        for part in parts_of(about, ""):
            assert part.needs
            assert set(part.needs) <= tasks
        for name, archive in about.get("archives", {}).items():
            assert archive.get("of", name) in about["parts"]


@pytest.mark.parametrize("name", sorted({load_task(name).corpus for name in task_names()}))
def test_patterns_are_those_of_the_layout_that_tasks_read(name: str, mini_cache: Path) -> None:
    root = superb_corpus(name, mini_cache, tiny=True)
    parts = [p for p in parts_of(KNOWN[name], "") if set(p.needs) - {"ctc", "pretrain"}]
    assert [part.name for part in parts if not part.found(root)] == []
