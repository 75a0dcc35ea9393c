# SPDX-License-Identifier: Apache-2.0
"""QUESST 2014: `Audio/*.wav`, `{dev,eval}_queries/*.wav` and `scoring/`, which says who holds what.

Layout: Anguera et al. 2014 (MediaEval). `scoring/language_key_{utterances,dev,eval}.lst` give the
language of each recording, `scoring/groundtruth_quesst14_{dev,eval}/` the pairs of document and
query (*.rttm) and all documents (*.ecf.xml).
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

SPLITS = {"dev": "dev", "test": "eval"}
LANGUAGE = "nnenglish"  # SUPERB looks for queries of this one alone
NO_QUERY = "NO_KEYWORD"


@dataclass(frozen=True)
class Truth:
    """What is to be found.

    Args:
        documents: by query, names of those that hold it; of every language.
        num_documents: of every language, whether they hold any or not.
    """

    documents: dict[str, set[str]]
    num_documents: int


def documents(root: Path) -> list[Path]:
    """Recordings to search, of the one language."""
    return _recordings(root, "utterances")


def queries(root: Path, split: str) -> list[Path]:
    """Recordings to search for, of dev or test and of the one language."""
    return _recordings(root, SPLITS[split])


def truth(root: Path, split: str) -> Truth:
    """Ground truth of dev or test.

    Raises:
        FileNotFoundError: if a file of it is missing.
    """
    folder = root / "scoring" / f"groundtruth_quesst14_{SPLITS[split]}"
    found: dict[str, set[str]] = {}
    for line in _only(folder, "*.rttm", root).read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[0] == "LEXEME" and fields[5] != NO_QUERY:
            found.setdefault(_name(fields[5]), set()).add(_name(fields[1]))
    excerpts = ET.parse(_only(folder, "*.ecf.xml", root)).getroot().iter("excerpt")
    return Truth(found, len({_name(e.attrib["audio_filename"]) for e in excerpts}))


def _only(folder: Path, pattern: str, root: Path) -> Path:
    paths = sorted(folder.glob(pattern))
    if len(paths) != 1:
        raise FileNotFoundError(
            f"paths.quesst14={root}: wants one {folder.relative_to(root)}/{pattern}, there are "
            f"{len(paths)}"
        )
    return paths[0]


def _recordings(root: Path, key: str) -> list[Path]:
    table = root / "scoring" / f"language_key_{key}.lst"
    if not table.is_file():
        raise FileNotFoundError(f"paths.quesst14={root}: there is no scoring/{table.name} in it")
    # A path begins with the name of the root, however a person calls that.
    paths = [
        root / fields[0].partition("/")[2]
        for fields in map(str.split, table.read_text(encoding="utf-8").splitlines())
        if fields[1:] == [LANGUAGE]
    ]
    if not paths:
        raise ValueError(f"{table}: no recording has the language {LANGUAGE}")
    if gone := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(
            f"paths.quesst14={root}: {len(gone)} of {len(paths)} recordings of {table.name} are "
            f"missing, such as {gone[0].relative_to(root)}"
        )
    return sorted(paths)


def _name(text: str) -> str:
    return Path(text).name.removesuffix(".wav")
