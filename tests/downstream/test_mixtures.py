# SPDX-License-Identifier: Apache-2.0
"""Recorded conversations and mixtures of a user's own; without them two speakers are mixed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavlm_lightning.audio import read_audio, write_audio
from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.corpora.manifest import Manifest
from wavlm_lightning.downstream.families.mixtures import Draw
from wavlm_lightning.downstream.metrics.der import Turn
from wavlm_lightning.downstream.task import Sources, Task

from .conftest import FRAMING, small_config

RATE = 16_000
SPLITS = ("train", "dev", "test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two speakers alone, and both together, of 3 s."""
    for seed, name in enumerate(("ann", "bob")):
        noise = 0.1 * np.random.default_rng(seed).standard_normal(3 * RATE)
        write_audio(tmp_path / f"{name}.wav", noise.astype(np.float32))
    both = read_audio(tmp_path / "ann.wav") + read_audio(tmp_path / "bob.wav")
    write_audio(tmp_path / "both.wav", both.numpy())
    return tmp_path


def task(folder: Path, name: str, *rows: dict[str, Any], **config: Any) -> Task[Any]:
    lines = ["id\tpath\tsplit\tspeaker\textra"]
    for split in SPLITS:
        for number, row in enumerate(rows):
            extra = json.dumps(row["extra"]) if "extra" in row else ""
            fields = [f"{split}{number}", row["path"], split, row.get("speaker", ""), extra]
            lines.append("\t".join(fields))
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    values = small_config(name)
    for key, value in config.items():
        object.__setattr__(values, key, value)
    sources = Sources("manifest", {}, Manifest(folder))
    return load_task(name)(values, sources, framing=FRAMING)


TURNS = {"turns": [["ann", 0.0, 2.0], ["bob", 1.5, 3]]}
ALONE = [{"path": "ann.wav", "speaker": "ann"}, {"path": "bob.wav", "speaker": "bob"}]


def test_recorded_turns_are_those_of_the_manifest(folder: Path) -> None:
    sd = task(folder, "sd", {"path": "both.wav", "extra": TURNS})
    (example,) = sd.examples("test")
    assert example.target == [Turn("ann", 0.0, 2.0), Turn("bob", 1.5, 3.0)]
    waveform, turns = sd.load(example, None)
    torch.testing.assert_close(waveform, read_audio(folder / "both.wav"), rtol=0, atol=0)
    assert turns == example.target
    assert sd.key(example, training=True) is not None


def test_recorded_turns_are_cut_into_chunks_in_training_alone(folder: Path) -> None:
    sd = task(folder, "sd", {"path": "both.wav", "extra": TURNS}, chunk_seconds=1.5)
    first, second = sd.examples("train")
    assert (first.start, first.stop, second.stop) == (0, 24_000, 48_000)
    assert sd.load(second, np.random.default_rng(0)).target == [
        Turn("ann", 0.0, 0.5),
        Turn("bob", 0.0, 1.5),
    ]
    assert [e.num_samples for e in sd.examples("test")] == [48_000]


def test_more_speakers_than_the_head_has_are_refused(folder: Path) -> None:
    extra = {"turns": [*TURNS["turns"], ["cyd", 2.0, 2.5]]}
    with pytest.raises(ValueError, match=r"manifest\.tsv, line 2: 1 recordings of train have more"):
        task(folder, "sd", {"path": "both.wav", "extra": extra})


def test_recorded_sources_are_those_of_the_manifest(folder: Path) -> None:
    extra = {"sources": ["ann.wav", "bob.wav"]}
    ss = task(folder, "ss", {"path": "both.wav", "extra": extra})
    (example,) = ss.examples("dev")
    mixture, sources = ss.load(example, None)
    assert sources.shape == (2, 3 * RATE)
    torch.testing.assert_close(sources[1], read_audio(folder / "bob.wav"), rtol=0, atol=0)
    torch.testing.assert_close(mixture, sources.sum(0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("sources", [["ann.wav"], ["ann.wav", "bob.wav", "both.wav"]])
def test_two_sources_are_needed(folder: Path, sources: list[str]) -> None:
    with pytest.raises(ValueError, match=r"line 2: sources in extra of train0 must be 2 record"):
        task(folder, "ss", {"path": "both.wav", "extra": {"sources": sources}})


@pytest.mark.parametrize("name", ["sd", "ss"])
def test_single_speakers_are_mixed_anew_in_training_and_alike_in_dev(
    name: str, folder: Path
) -> None:
    made = task(folder, name, *ALONE)
    assert [e.target for e in made.examples("dev")] == [Draw("dev", 0), Draw("dev", 1)]
    example = made.examples("train")[0]
    assert made.key(example, training=True) is None
    first, second = (made.load(example, np.random.default_rng(s)).waveform for s in (0, 1))
    assert first.shape != second.shape or not torch.equal(first, second)
    dev = made.examples("dev")[0]
    again = [made.load(dev, None).waveform for _ in range(2)]
    torch.testing.assert_close(again[0], again[1], rtol=0, atol=0)


def test_some_recordings_with_turns_and_some_without_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"line 3: train1 has no turns in extra, as 3 of 6"):
        task(folder, "sd", {"path": "both.wav", "extra": TURNS}, ALONE[0])


def test_mixtures_of_speakers_without_names_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"line 2: speaker is empty, and there are no turns"):
        task(folder, "sd", {"path": "ann.wav"}, {"path": "bob.wav"})


def test_mixtures_of_one_speaker_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="mixtures need two speakers, all 1 rows of train are"):
        task(folder, "sd", ALONE[0])
