# SPDX-License-Identifier: Apache-2.0
"""Fluent Speech Commands: its tables, and what is said of broken ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from wavlm_lightning.downstream.corpora.corpus import measured
from wavlm_lightning.downstream.corpora.fluent_commands import FluentCommands
from wavlm_lightning.downstream.corpora.lengths import audio_lengths

Record = Callable[..., Path]
HEADER = ",path,speakerId,transcription,action,object,location\n"


@pytest.fixture
def corpus(tmp_path: Path, record: Record) -> Path:
    record("wavs/speakers/ann/1.wav", 9_000)
    (tmp_path / "data").mkdir()
    line = '0,wavs/speakers/ann/1.wav,ann,"Lights, please",activate,lights,none\n'
    (tmp_path / "data/valid_data.csv").write_text(HEADER + line)
    return tmp_path


def test_a_line_is_a_recording_and_its_slots(corpus: Path) -> None:
    (found,) = measured(FluentCommands(corpus).of("dev"), audio_lengths)
    values = {"action": "activate", "object": "lights", "location": "none"}
    assert found.extra == {"classes": values}
    assert (found.num_samples, found.path.name) == (9_000, "1.wav")


def test_a_missing_table_a_column_and_a_recording_are_named(corpus: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data/train_data\.csv"):
        FluentCommands(corpus).of("train")
    (corpus / "data/train_data.csv").write_text(HEADER.replace("object", "thing"))
    with pytest.raises(ValueError, match="no column object"):
        FluentCommands(corpus).of("train")
    (corpus / "wavs/speakers/ann/1.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 1 recordings of valid_data\.csv"):
        FluentCommands(corpus).of("dev")
