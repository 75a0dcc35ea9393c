# SPDX-License-Identifier: Apache-2.0
"""Recordings, manifests, upstreams and corpora that no task can use: each is one line that says
what, where and what to do, and nothing is trained."""

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import wavlm_lightning.recipes.superb.__main__ as superb
from tests.conftest import write_speech

pytestmark = pytest.mark.bad_input

COLUMNS = ("id", "path", "split", "speaker", "label", "text", "extra")
SPLITS = ["train"] * 6 + ["dev"] * 3 + ["test"] * 3
Rows = list[dict[str, str]]
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def good_rows() -> Rows:
    """Three speakers, two labels."""
    return [
        {
            "id": f"u{i}",
            "path": f"{i}.wav",
            "split": split,
            "speaker": f"s{i % 3}",
            "label": ("calm", "cross")[i % 2],
            "text": "a day",
            "extra": json.dumps({"classes": {"what": f"{i % 2}"}, "phones": "AH0 D EY1"}),
        }
        for i, split in enumerate(SPLITS)
    ]


def write_rows(root: Path, rows: Rows) -> None:
    columns = list(rows[0])
    lines = ["\t".join(columns), *("\t".join(row[c] for c in columns) for row in rows)]
    (root / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest folder of a second each that a test may spoil."""
    root = tmp_path / "mine"
    for i in range(len(SPLITS)):
        write_speech(root / f"{i}.wav", 1.0, seed=i)
    write_rows(root, good_rows())
    return root


Spoil = Callable[[Path], None]


def changed(change: Callable[[Rows], Any]) -> Spoil:
    """Change rows of the manifest."""

    def spoil(root: Path) -> None:
        rows = good_rows()
        change(rows)
        write_rows(root, rows)

    return spoil


def every(column: str, value: str, split: str = "") -> Spoil:
    """One value in all rows, or all of a split."""
    return changed(
        lambda rows: [r.update({column: value}) for r in rows if split in ("", r["split"])]
    )


def first(column: str, value: str) -> Spoil:
    """A value in the first row, which is line 2."""
    return changed(lambda rows: rows[0].update({column: value}))


def recording(write: Callable[[Path], Any]) -> Spoil:
    """Another file in place of the first recording."""

    def spoil(root: Path) -> None:
        (root / "0.wav").unlink()
        write(root / "0.wav")

    return spoil


def samples(values: Any, rate: int = 16_000) -> Spoil:
    return recording(
        lambda path: soundfile.write(path, np.asarray(values, np.float32), rate, subtype="FLOAT")
    )


def cut(path: Path) -> None:
    write_speech(path, 1.0, seed=0)
    path.write_bytes(path.read_bytes()[:9000])


def encoded(encoding: str, text: str) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / "manifest.tsv"
        path.write_bytes(path.read_text().replace("a day", text).encode(encoding))

    return spoil


def written(content: str) -> Spoil:
    return lambda root: (root / "manifest.tsv").write_text(content) and None


@dataclass(frozen=True)
class Case:
    """Input and parts of the line that it ends with."""

    name: str
    spoil: Spoil
    wanted: tuple[str, ...]
    task: str = "er"
    words: tuple[str, ...] = ()


NOISE = np.random.default_rng(0).standard_normal(16_000) * 0.1
CASES = [
    Case("a tab in a text", first("text", "a\tday"), ("line 2: 8 fields, the header has 7",)),
    Case("UTF-16", encoded("utf-16", "a day"), ("manifest.tsv", "UTF-16", "save it as UTF-8")),
    Case("Latin-1", encoded("latin-1", "ä day"), ("line 2", "save the file as UTF-8")),
    Case("no rows", written("\t".join(COLUMNS) + "\n"), ("manifest.tsv", "no row")),
    Case("an empty manifest", written(""), ("manifest.tsv", "no column id")),
    Case("no manifest", lambda root: (root / "manifest.tsv").unlink(), ("no manifest.tsv in it",)),
    Case(
        "a column is missing",
        changed(lambda rows: [r.pop("label") for r in rows]),
        ("none of 12 recordings has a label", "columns of manifest.tsv are id, path"),
    ),
    Case("a cell is empty", first("label", ""), ("line 2", "label is empty")),
    Case("an id is empty", first("id", " "), ("line 2", "column id is empty")),
    Case("an unknown split", first("split", "valid"), ("line 2", "valid, not train, dev or test")),
    Case("a split is missing", every("split", "dev", "test"), ("is of the split test",), "ks"),
    Case("extra is no JSON", first("extra", "{x"), ("line 2", "extra is not JSON"), "ic"),
    Case("extra is a list", first("extra", "[1]"), ("line 2", "but no object"), "ic"),
    Case("an id twice", first("id", "u1"), ("line 3", "u1", "line 2")),
    Case("a missing recording", first("path", "no.wav"), ("1 recordings are missing", "no.wav")),
    Case("a path to a folder", first("path", "."), ("recordings are missing",)),
    Case("an empty file", recording(lambda path: path.touch()), ("0.wav", "empty file")),
    Case("a text file", recording(lambda path: path.write_text("x" * 99)), ("0.wav", "as audio")),
    Case("no samples", samples([]), ("0.wav", "0 samples")),
    Case("silence", samples(np.zeros(16_000)), ("0.wav", "silent")),
    Case("no number", samples(np.full(16_000, np.nan)), ("0.wav", "NaN")),
    Case("infinite", samples(np.full(16_000, np.inf)), ("0.wav", "infinite")),
    Case("far too loud", samples(1e30 * NOISE), ("0.wav", "full scale")),
    Case("a rate of 1 Hz", samples(NOISE, 1), ("0.wav", "1 Hz")),
    Case("antiphase", samples(np.stack([NOISE, -NOISE], 1)), ("0.wav", "channels")),
    Case("cut off", recording(cut), ("0.wav", "cut")),
    Case("a pipe", recording(os.mkfifo), ("0.wav",)),
    Case("a Git LFS pointer", recording(lambda path: path.write_text(LFS)), ("0.wav", "Git LFS")),
    Case("a gzip", recording(lambda p: p.write_bytes(gzip.compress(b"x" * 99))), ("0.wav",)),
    Case("one class", every("label", "calm"), ("one class, calm", "nothing to tell apart")),
    Case("one keyword", every("label", "calm"), ("one class, calm",), "ks"),
    Case(
        "one intent",
        every("extra", '{"classes": {"what": "x"}}'),
        ("nothing to tell apart",),
        "ic",
    ),
    Case("no classes", every("extra", "{}"), ("manifest.tsv", "classes"), "ic"),
    Case("one speaker in SD", every("speaker", "s", "train"), ("need two speakers", "s"), "sd"),
    Case("one speaker in SS", every("speaker", "s", "dev"), ("need two speakers", "dev"), "ss"),
    Case("one speaker in ASV", every("speaker", "s"), ("speaker",), "asv"),
    Case("one speaker in SID", every("speaker", "s"), ("one class, s", "tell apart"), "sid"),
    Case("an unknown sid_split", first("extra", '{"sid_split": "x"}'), ("u0", "sid_split"), "sid"),
    Case("no phones", first("extra", "{}"), ("manifest.tsv", "phones", "u0"), "pr"),
    Case("slots do not fit", every("extra", '{"slots": ["O"]}'), ("slot for each", "u0"), "sf"),
    Case("texts too long", every("text", "a day " * 40), ("more symbols", "u0"), "asr"),
    Case("an empty text", first("text", " "), ("line 2", "text is empty"), "asr"),
    Case("no queries", lambda root: None, ("task.queries=DIR",), "qbe"),
    Case(
        "queries in no document", every("text", "b"), ("no recording has digits in extra",), "qbe",
        ("--task.queries={root}", "--task.documents=digits"),
    ),
]  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], run: Callable[[], int]) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    assert run() == 1
    out, err = capsys.readouterr()
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert "test/" not in out
    return lines[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_task_names_what_it_cannot_use(
    case: Case,
    folder: Path,
    probe_words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case.spoil(folder)
    own = [word.replace("{root}", str(folder)) for word in case.words]
    words = [*probe_words, f"--data.manifest={folder}", *own]
    line = refused(capsys, lambda: superb.main([case.task, "fbank", *words]))
    for part in case.wanted:
        assert part in line
    assert not list((tmp_path / "runs").rglob("*.ckpt"))
