# SPDX-License-Identifier: Apache-2.0
"""QUESST 2014: `Audio/*.wav`, `{dev,eval}_queries/*.wav` and `scoring/`, which says who holds what.

Layout: Anguera et al. 2014 (MediaEval). `scoring/language_key_{utterances,dev,eval}.lst` give the
language of each recording, `scoring/groundtruth_quesst14_{dev,eval}/` the pairs of document and
query (*.rttm) and all documents (*.ecf.xml).
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from wavlm_lightning.downstream.corpora.corpus import Recording
from wavlm_lightning.files import read_text

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


class Quesst14:
    """Documents, queries, and which of the documents hold each query.

    Args:
        root: Holds Audio, dev_queries, eval_queries and scoring.
    """

    def __init__(self, root: Path):
        self.root = root

    def documents(self) -> list[Recording]:
        """Recordings to search, of the one language."""
        return [Recording(p.stem, p) for p in _recordings(self.root, "utterances")]

    def queries(self, split: str) -> list[Recording]:
        """Recordings to search for, of dev or test and of the one language."""
        return [Recording(p.stem, p, split) for p in _recordings(self.root, SPLITS[split])]

    def truth(self, split: str, *, usable: Collection[str]) -> Truth:
        """Truth of dev or test, without documents of the one language that are not usable."""
        gone = {p.stem for p in _recordings(self.root, "utterances")}.difference(usable)
        every = truth(self.root, split)
        found = {query: names - gone for query, names in every.documents.items()}
        return Truth(found, every.num_documents - len(gone))


def truth(root: Path, split: str) -> Truth:
    """Ground truth of dev or test.

    Raises:
        FileNotFoundError: if a file of it is missing.
    """
    folder = root / "scoring" / f"groundtruth_quesst14_{SPLITS[split]}"
    found: dict[str, set[str]] = {}
    for line in read_text(_only(folder, "*.rttm", root)).splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[0] == "LEXEME" and fields[5] != NO_QUERY:
            found.setdefault(_name(fields[5]), set()).add(_name(fields[1]))
    recordings = _excerpts(_only(folder, "*.ecf.xml", root))
    return Truth(found, len({_name(recording) for recording in recordings}))


def _excerpts(path: Path) -> list[str]:
    """The recording of each `excerpt` of an ECF file.

    Raises:
        ValueError: naming the file, if it is not XML, or declares entities: those can stand for
            other files, or for more text than a memory holds.
    """
    found: list[str] = []
    parser = expat.ParserCreate()

    def begin(name: str, attributes: dict[str, str]) -> None:
        if name == "excerpt":
            found.append(attributes["audio_filename"])

    def refuse(*_: object) -> None:
        raise ValueError(f"{path} declares XML entities, which are not read")

    parser.StartElementHandler = begin
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, KeyError) as error:
        raise ValueError(f"{path} is no ECF file in XML: {error}") from error
    return found


def _only(folder: Path, pattern: str, root: Path) -> Path:
    paths = sorted(folder.glob(pattern))
    if len(paths) != 1:
        raise FileNotFoundError(
            f"paths.quesst14={root}: there must be one {folder.relative_to(root)}/{pattern} "
            f"(got {len(paths)})"
        )
    return paths[0]


def _recordings(root: Path, key: str) -> list[Path]:
    table = root / "scoring" / f"language_key_{key}.lst"
    if not table.is_file():
        raise FileNotFoundError(f"paths.quesst14={root}: there is no scoring/{table.name} in it")
    # A path begins with the name of the root, whatever that is called here.
    paths = [
        root / fields[0].partition("/")[2]
        for fields in map(str.split, read_text(table).splitlines())
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
