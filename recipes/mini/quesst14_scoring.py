# SPDX-License-Identifier: Apache-2.0
"""The text files of QUESST 2014's scoring package: languages, ground truth, documents, queries.

    scoring/language_key_dev.lst                                <path> <language>
    scoring/groundtruth_quesst14_dev/quesst14_dev.rttm          where the queries are said
    scoring/groundtruth_quesst14_dev/quesst14.ecf.xml           all documents
    scoring/groundtruth_quesst14_dev/quesst14_dev.tlist.xml     all queries

Formats: NIST's evaluation plan of STD 2006, as the organisers of QUESST use them: names are those
of the files, times are in seconds, a document without a query has a line NO_KEYWORD.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Document(NamedTuple):
    """Who speaks, and for how long."""

    speaker: str
    seconds: float


class Occurrence(NamedTuple):
    """A query said in a document, in seconds."""

    document: str
    query: str
    start: float
    end: float


def write_key(path: Path, languages: Mapping[Path, str]) -> None:
    """The language of each file."""
    _write(path, [f"{name.as_posix()} {languages[name]}" for name in sorted(languages)])


def write_truth(
    folder: Path,
    documents: Mapping[str, Document],
    queries: Sequence[str],
    found: Sequence[Occurrence],
    *,
    split: str,
) -> None:
    """The ground truth of a split, in a folder of its own below `folder`."""
    folder = folder / f"groundtruth_quesst14_{split}"
    lines = [line for name in sorted(documents) for line in _lines(name, documents[name], found)]
    _write(folder / f"quesst14_{split}.rttm", lines)
    excerpts = [
        f'<excerpt audio_filename="{name}.wav" channel="1" tbeg="0.000" '
        f'dur="{documents[name].seconds:.3f}" language="multiple" source_type="bnews"/>'
        for name in sorted(documents)
    ]
    whole = sum(document.seconds for document in documents.values())
    opening = f'<ecf source_signal_duration="{whole:.3f}" language="multiple" version="mini">'
    _write(folder / "quesst14.ecf.xml", [opening, *excerpts, "</ecf>"])
    terms = [
        f'<term termid="{name}"><termtext>{name}</termtext></term>' for name in sorted(queries)
    ]
    opening = '<termlist ecf_filename="quesst14.ecf.xml" language="multiple" version="mini">'
    _write(folder / f"quesst14_{split}.tlist.xml", [opening, *terms, "</termlist>"])


def _lines(name: str, document: Document, found: Sequence[Occurrence]) -> list[str]:
    """The rttm of one document."""
    who, seconds = document
    out = [f"SPEAKER {name} 1 0.000 {seconds:.3f} <NA> <NA> {who} <NA>"]
    own = [item for item in found if item.document == name]
    for item in own or [Occurrence(name, "NO_KEYWORD", 0, seconds)]:
        times = f"{item.start:.3f} {item.end - item.start:.3f}"
        out.append(f"LEXEME {name} 1 {times} {item.query} lex {who} <NA>")
    return out


def _write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
