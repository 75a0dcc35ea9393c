# SPDX-License-Identifier: Apache-2.0
"""IEMOCAP: a miniature of its layout, what is left out, and what is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from wavlm_lightning.audio import AudioError
from wavlm_lightning.downstream.corpora.corpus import Recording, read
from wavlm_lightning.downstream.corpora.iemocap import IEMOCAP

Record = Callable[..., Path]
HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"


def annotation(root: Path, session: int, dialogue: str) -> Path:
    return root / f"Session{session}/dialog/EmoEvaluation/{dialogue}.txt"


def annotate(root: Path, dialogue: str, emotions: Sequence[str]) -> list[str]:
    """The published form: each turn's line, then what single annotators said of it."""
    session = int(dialogue[3:5])
    names = [f"{dialogue}_F{i:03d}" for i in range(len(emotions))]
    blocks = [
        f"[{6.2901 + i:.4f} - {7.2357 + i:.4f}]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]\n"
        "C-E2:\tNeutral;\t()\nC-E3:\tSadness; Anger;\t(a word)\nA-E3:\tval 3; act 2; dom 2;\t()\n\n"
        for i, (name, emotion) in enumerate(zip(names, emotions, strict=True))
    ]
    path = annotation(root, session, dialogue)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "".join(blocks))
    return names


@pytest.fixture
def corpus(tmp_path: Path, record: Record) -> Path:
    """Five sessions of one dialogue with three turns each, the last of them without an emotion."""
    for session in range(1, 6):
        dialogue = f"Ses{session:02d}F_script01_1"
        for i, name in enumerate(annotate(tmp_path, dialogue, ["neu", "ang", "xxx"])):
            record(f"Session{session}/sentences/wav/{dialogue}/{name}.wav", 8_000 + i)
    return tmp_path


def turns(corpus: Path) -> list[Recording]:
    return read(IEMOCAP(corpus))


def test_turns_of_the_wanted_emotions_are_found(corpus: Path) -> None:
    assert [(t.extra["fold"], t.label) for t in turns(corpus)] == [
        (session, emotion) for session in range(1, 6) for emotion in ("neutral", "angry")
    ]


def test_excitement_is_happiness_and_others_are_left_out(corpus: Path, record: Record) -> None:
    names = annotate(corpus, "Ses01F_impro01", ["exc", "hap", "fru"])
    for name in names:
        record(f"Session1/sentences/wav/Ses01F_impro01/{name}.wav")
    assert [t.label for t in turns(corpus)[:3]] == ["happy", "happy", "neutral"]


def test_speakers_are_two_in_each_session(corpus: Path, record: Record) -> None:
    (name,) = annotate(corpus, "Ses01F_impro01", ["sad"])
    male = name.replace("_F000", "_M000")
    table = annotation(corpus, 1, "Ses01F_impro01")
    table.write_text(table.read_text().replace(name, male))
    record(f"Session1/sentences/wav/Ses01F_impro01/{male}.wav")
    assert [t.speaker for t in turns(corpus)[:4]] == ["1M", "1F", "1F", "2F"]


def test_turn_lies_in_the_folder_of_its_dialogue(corpus: Path) -> None:
    first = turns(corpus)[0]
    assert first.id == "Ses01F_script01_1_F000"
    assert first.path == corpus / "Session1/sentences/wav/Ses01F_script01_1" / f"{first.id}.wav"


def test_turns_have_the_lengths_of_their_recordings(corpus: Path) -> None:
    assert [t.num_samples for t in turns(corpus)[:2]] == [8_000, 8_001]


def test_dialogues_come_in_the_order_of_their_names(corpus: Path, record: Record) -> None:
    (name,) = annotate(corpus, "Ses01F_impro01", ["sad"])
    record(f"Session1/sentences/wav/Ses01F_impro01/{name}.wav")
    assert [t.label for t in turns(corpus)[:3]] == ["sad", "neutral", "angry"]


def test_forks_that_macos_left_are_ignored(corpus: Path) -> None:
    table = annotation(corpus, 1, "Ses01F_script01_1")
    lines = table.read_text().replace("Ses01F_script01_1_F000", "Ses01F_script01_1_F099")
    (table.parent / f"._{table.name}").write_text(lines)
    assert len(turns(corpus)) == 10


def test_bytes_that_are_not_utf_8_do_not_matter(corpus: Path) -> None:
    with annotation(corpus, 1, "Ses01F_script01_1").open("ab") as file:
        file.write(b"C-E1:\tNeutral;\t(caf\xe9)\n")
    assert len(turns(corpus)) == 10


def test_recording_at_another_rate_has_its_length_at_16_khz(corpus: Path, record: Record) -> None:
    first = turns(corpus)[0]
    record(str(first.path.relative_to(corpus)), 4_000, rate=8_000)
    assert turns(corpus)[0].num_samples == 8_000


def test_missing_session_is_named_beside_those_there_are(corpus: Path) -> None:
    annotation(corpus, 3, "Ses03F_script01_1").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"paths\.iemocap=.*: no annotations at Session3/dialog/EmoEvaluation/Ses\*\.txt; "
        "it holds Session1, Session2, Session3, Session4, Session5$",
    ):
        turns(corpus)


def test_missing_recordings_are_counted(corpus: Path) -> None:
    for turn in turns(corpus)[3:5]:
        turn.path.unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"2 of 10 recordings are missing, such as Session2/.*/Ses02F_script01_1_F001\.wav$",
    ):
        turns(corpus)


def test_missing_recording_of_another_emotion_does_not_matter(corpus: Path) -> None:
    name = "Ses01F_script01_1"
    (corpus / f"Session1/sentences/wav/{name}/{name}_F002.wav").unlink()
    assert len(turns(corpus)) == 10


def test_unreadable_recording_is_named(corpus: Path) -> None:
    turns(corpus)[0].path.write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"Ses01F_script01_1_F000\.wav: not readable as audio"):
        turns(corpus)
