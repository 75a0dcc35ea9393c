# SPDX-License-Identifier: Apache-2.0
"""Speech Commands: which part a speaker is in, which class a folder is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from wavlm_lightning.downstream.corpora.speech_commands import SpeechCommands, part_of

Record = Callable[..., Path]
# Speakers of the lists that come with the corpus.
LISTS = {
    "": ("0c40e715", "0ea0e2f4", "105a0eea", "1528225c"),  # testing_list.txt
    "dev": ("026290a7", "060cd039", "099d52ad", "0e17f595"),  # validation_list.txt
    "train": ("00176480", "004ae714", "00f0204f"),
}


@pytest.mark.parametrize(("part", "speakers"), LISTS.items(), ids=["unused", "dev", "train"])
def test_known_speakers_are_in_their_part(part: str, speakers: tuple[str, ...]) -> None:
    assert {part_of(f"bed/{speaker}_nohash_0.wav") for speaker in speakers} == {part}


def test_a_speaker_is_in_one_part_whatever_is_said() -> None:
    assert part_of("bed/026290a7_nohash_0.wav") == part_of("/x/yes/026290a7_nohash_12.wav")


def test_clips_are_those_of_the_split_with_their_class(tmp_path: Path, record: Record) -> None:
    for speaker in ("0c40e715", "026290a7", "00176480"):
        for word in ("yes", "bed", "_background_noise_"):
            record(f"speech_commands_v0.01/{word}/{speaker}_nohash_0.wav")
    for name in ("yes/a_nohash_0", "_unknown_/bed_a_nohash_0", "_silence_/1"):
        record(f"speech_commands_test_set_v0.01/{name}.wav")
    corpus = SpeechCommands(tmp_path, silences=2)
    found = {s: [(c.id, c.label) for c in corpus.words(s)] for s in ("train", "dev")}
    assert found["train"] == [
        ("bed/00176480_nohash_0.wav", "_unknown_"),
        ("yes/00176480_nohash_0.wav", "yes"),
    ]
    assert [label for _, label in found["dev"]] == ["_unknown_", "yes"]
    assert {(c.id, c.label) for c in corpus.words("test")} == {
        ("yes/a_nohash_0.wav", "yes"),
        ("_unknown_/bed_a_nohash_0.wav", "_unknown_"),
        ("_silence_/1.wav", "_silence_"),
    }
    silences = [r for r in corpus.recordings() if r.path.parent.name == "_background_noise_"]
    assert [r.split for r in silences] == ["train"] * 6 + ["dev"] * 6
    assert {r.label for r in silences} == {"_silence_"}


def test_a_missing_archive_is_named(tmp_path: Path, record: Record) -> None:
    record("speech_commands_v0.01/yes/00176480_nohash_0.wav")
    record("speech_commands_v0.01/yes/026290a7_nohash_0.wav")
    with pytest.raises(FileNotFoundError, match="of test at speech_commands_test_set"):
        SpeechCommands(tmp_path, silences=1).recordings()
    record("speech_commands_test_set_v0.01/yes/a_nohash_0.wav")
    with pytest.raises(FileNotFoundError, match="_background_noise_"):
        SpeechCommands(tmp_path, silences=1).recordings()
