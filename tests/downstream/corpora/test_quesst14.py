# SPDX-License-Identifier: Apache-2.0
"""QUESST 2014: one language to look in, ground truth of all of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from wavlm_lightning.downstream.corpora.quesst14 import Quesst14, truth

Record = Callable[..., Path]
RTTM = """\
SPEAKER quesst14_00001 1 0.000 3.0 <NA> <NA> ann <NA>
LEXEME quesst14_00001 1 0.10 0.40 quesst14_dev_0001 lex ann <NA>
LEXEME quesst14_00001 1 1.10 0.40 quesst14_dev_0001 lex ann <NA>
LEXEME quesst14_00002 1 0.00 3.00 NO_KEYWORD lex ann <NA>
LEXEME quesst14_00003.wav 1 0.00 3.00 quesst14_dev_0002 lex ann <NA>
"""
ECF = """\
<ecf source_signal_duration="9.0" version="1">
{}
</ecf>
"""
EXCERPT = '<excerpt audio_filename="Audio/quesst14_0000{}.wav" channel="1" tbeg="0.0" dur="3.0"/>'


@pytest.fixture
def corpus(tmp_path: Path, record: Record) -> Path:
    keys = tmp_path / "scoring"
    folder = keys / "groundtruth_quesst14_dev"
    folder.mkdir(parents=True)
    for i in (1, 2):
        record(f"Audio/quesst14_0000{i}.wav", rate=8_000)
        record(f"dev_queries/quesst14_dev_000{i}.wav", rate=8_000)
    lines = [f"quesst14Database/Audio/quesst14_0000{i}.wav" for i in (2, 1, 3)]
    languages = ["nnenglish", "nnenglish", "czech"]
    text = "".join(f"{p} {k}\n" for p, k in zip(lines, languages, strict=True))
    (keys / "language_key_utterances.lst").write_text(text)
    text = "q/dev_queries/quesst14_dev_0001.wav\tnnenglish\n\nq/dev_queries/x.wav czech\n"
    (keys / "language_key_dev.lst").write_text(text)
    (folder / "quesst14_dev.rttm").write_text(RTTM)
    (folder / "x.ecf.xml").write_text(ECF.format("\n".join(map(EXCERPT.format, (1, 2, 3)))))
    return tmp_path


def test_recordings_are_those_of_the_language(corpus: Path) -> None:
    assert [r.id for r in Quesst14(corpus).documents()] == ["quesst14_00001", "quesst14_00002"]
    assert [r.id for r in Quesst14(corpus).queries("dev")] == ["quesst14_dev_0001"]


def test_ground_truth_is_of_all_languages(corpus: Path) -> None:
    found = truth(corpus, "dev")
    assert found.num_documents == 3
    assert found.documents == {
        "quesst14_dev_0001": {"quesst14_00001"},
        "quesst14_dev_0002": {"quesst14_00003"},
    }


def test_documents_that_are_not_usable_hold_nothing_and_do_not_count(corpus: Path) -> None:
    found = Quesst14(corpus).truth("dev", usable={"quesst14_00002"})
    assert found.num_documents == 2
    assert found.documents["quesst14_dev_0001"] == set()
    assert found.documents["quesst14_dev_0002"] == {"quesst14_00003"}  # of another language


def test_missing_files_are_named(corpus: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no scoring/language_key_eval\.lst"):
        Quesst14(corpus).queries("test")
    with pytest.raises(
        FileNotFoundError, match=r"there must be one scoring/groundtruth_quesst14_eval/"
    ):
        truth(corpus, "test")
    (corpus / "Audio/quesst14_00001.wav").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 2 recordings of language_key_utterances"):
        Quesst14(corpus).documents()


def test_a_list_without_the_language_is_refused(corpus: Path) -> None:
    (corpus / "scoring/language_key_dev.lst").write_text("q/dev_queries/x.wav czech\n")
    with pytest.raises(ValueError, match="no recording has the language nnenglish"):
        Quesst14(corpus).queries("dev")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "declared",
    [
        # A billion laughs, and a file of this machine.
        '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">',
        '<!ENTITY a SYSTEM "file:///etc/hostname">',
        '<!ENTITY % a SYSTEM "http://example.org/a.dtd"> %a;',
    ],
)
def test_entities_are_refused_and_never_expanded(corpus: Path, declared: str) -> None:
    path = corpus / "scoring" / "groundtruth_quesst14_dev" / "x.ecf.xml"
    body = ECF.format(EXCERPT.format(1).replace('"1"', '"&a;"'))
    path.write_text(f'<?xml version="1.0"?>\n<!DOCTYPE ecf [{declared}]>\n{body}')
    with pytest.raises(ValueError, match=r"x\.ecf\.xml"):
        truth(corpus, "dev")


@pytest.mark.bad_input
@pytest.mark.parametrize("content", ["", "<ecf>", "rubbish", "<ecf><excerpt/></ecf>"])
def test_xml_that_is_none_is_named(corpus: Path, content: str) -> None:
    (corpus / "scoring" / "groundtruth_quesst14_dev" / "x.ecf.xml").write_text(content)
    with pytest.raises(ValueError, match=r"x\.ecf\.xml"):
        truth(corpus, "dev")
