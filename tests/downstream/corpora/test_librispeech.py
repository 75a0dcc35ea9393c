# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech: a miniature of its layout, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from wavlm_lightning.audio import AudioError
from wavlm_lightning.downstream.corpora.corpus import Recording, read
from wavlm_lightning.downstream.corpora.librispeech import LibriSpeech

Record = Callable[..., Path]
TEXTS = {"19-198-0000": "ONE TWO", "19-198-0001": "THREE", "7-40-0000": "IT'S FOUR"}


@pytest.fixture
def corpus(tmp_path: Path, record: Record) -> Path:
    """Two chapters of train-clean-100, the last line first; recordings get longer by the id."""
    for i, (name, text) in reversed([*enumerate(TEXTS.items())]):
        speaker, chapter, _ = name.split("-")
        folder = f"train-clean-100/{speaker}/{chapter}"
        record(f"{folder}/{name}.flac", 8_000 + 100 * i)
        with (tmp_path / folder / f"{speaker}-{chapter}.trans.txt").open("a") as file:
            file.write(f"{name} {text}\n")
    return tmp_path


def utterances(corpus: Path, name: str) -> list[Recording]:
    return read(LibriSpeech(corpus, {"train": [name]}))


def transcripts(corpus: Path) -> Path:
    return corpus / "train-clean-100/19/198/19-198.trans.txt"


def test_utterances_carry_their_words(corpus: Path) -> None:
    assert {u.id: u.text for u in utterances(corpus, "train-clean-100")} == TEXTS


def test_utterances_are_sorted_by_id(corpus: Path) -> None:
    assert [u.id for u in utterances(corpus, "train-clean-100")] == sorted(TEXTS)


def test_utterances_have_the_lengths_of_their_recordings(corpus: Path) -> None:
    assert [u.num_samples for u in utterances(corpus, "train-clean-100")] == [8_000, 8_100, 8_200]


def test_paths_are_those_of_the_recordings(corpus: Path) -> None:
    assert all(u.path.is_file() for u in utterances(corpus, "train-clean-100"))
    assert all(u.path.stem == u.id for u in utterances(corpus, "train-clean-100"))


def test_speaker_is_the_first_part_of_the_id(corpus: Path) -> None:
    assert [u.speaker for u in utterances(corpus, "train-clean-100")] == ["19", "19", "7"]


def test_other_splits_are_left_alone(corpus: Path, record: Record) -> None:
    record("dev-clean/1/2/1-2-0000.flac")
    (corpus / "dev-clean/1/2/1-2.trans.txt").write_text("1-2-0000 FIVE\n")
    assert [u.text for u in utterances(corpus, "dev-clean")] == ["FIVE"]


def test_recording_at_another_rate_has_its_length_at_16_khz(corpus: Path, record: Record) -> None:
    record("train-clean-100/7/40/7-40-0000.flac", 4_000, rate=8_000)
    assert utterances(corpus, "train-clean-100")[-1].num_samples == 8_000


def test_missing_split_is_named_beside_those_there_are(corpus: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"paths\.librispeech=.*: no transcripts at dev-clean/\*/\*/\*\.trans\.txt; "
        "it holds train-clean-100$",
    ):
        utterances(corpus, "dev-clean")


def test_empty_folder_is_said_to_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="it holds nothing"):
        utterances(tmp_path, "dev-clean")


def test_missing_recordings_are_counted(corpus: Path) -> None:
    for name in ("19-198-0000", "19-198-0001"):
        (corpus / "train-clean-100/19/198" / f"{name}.flac").unlink()
    with pytest.raises(
        FileNotFoundError,
        match="train-clean-100 is incomplete, 2 of 3 recordings are missing, such as 19-198-0000",
    ):
        utterances(corpus, "train-clean-100")


@pytest.mark.parametrize("line", ["19-198-0002", "19-198-0002  "])
def test_transcript_without_words_is_named(corpus: Path, line: str) -> None:
    with transcripts(corpus).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"19-198\.trans\.txt: no words for 19-198-0002"):
        utterances(corpus, "train-clean-100")


def test_empty_line_of_a_transcript_is_named(corpus: Path) -> None:
    with transcripts(corpus).open("a") as file:
        file.write("\n")
    with pytest.raises(ValueError, match=r"19-198\.trans\.txt: no words for an empty line"):
        utterances(corpus, "train-clean-100")


def test_unreadable_recording_is_named(corpus: Path) -> None:
    (corpus / "train-clean-100/7/40/7-40-0000.flac").write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"7-40-0000\.flac: not readable as audio"):
        utterances(corpus, "train-clean-100")
