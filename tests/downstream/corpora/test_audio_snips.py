# SPDX-License-Identifier: Apache-2.0
"""Audio SNIPS: voices, words and slots, and what is said of broken lines."""

from collections.abc import Callable
from pathlib import Path

import pytest

from wavlm_lightning.downstream.corpora.audio_snips import AudioSnips
from wavlm_lightning.downstream.corpora.corpus import Recording

Record = Callable[..., Path]
LINE = "Amy-snips-valid-0 BOS play THE & ! WHO EOS\tO O artist artist O artist PlayMusic\n"


@pytest.fixture
def corpus(tmp_path: Path, record: Record) -> Path:
    record("valid/Amy-snips-valid-0.wav", 9_000)
    record("valid/Ivy-snips-valid-0.wav")
    (tmp_path / "all.iob.snips.txt").write_text(LINE)
    (tmp_path / "slots.txt").write_text("O\nartist\nalbum")
    return tmp_path


def of(corpus: Path, *voices: str) -> list[Recording]:
    return AudioSnips(corpus, {"dev": voices}).of("dev")


def test_words_are_upper_case_without_marks_and_punctuation(corpus: Path) -> None:
    (found,) = of(corpus, "Amy")
    assert found.text == "PLAY THE AND WHO"
    assert found.extra == {"slots": ["O", "artist", "artist", "artist"]}
    assert found.path.name == "Amy-snips-valid-0.wav"


def test_the_first_line_of_slots_is_none(corpus: Path) -> None:
    assert AudioSnips(corpus, {}).classes == ["artist", "album"]


def test_voices_that_are_not_there_are_named(corpus: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"valid/Nicole-\*\.wav of 1 of the 2 voices"):
        of(corpus, "Amy", "Nicole")


def test_a_recording_without_a_text_is_named(corpus: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"1 recordings of valid have no line in .*Ivy"):
        of(corpus, "Ivy")


def test_a_line_with_more_words_than_slots_is_named(corpus: Path) -> None:
    (corpus / "all.iob.snips.txt").write_text(LINE.replace("play", "play it"))
    with pytest.raises(ValueError, match="line 1: 8 words and 7 slots"):
        of(corpus, "Amy")
