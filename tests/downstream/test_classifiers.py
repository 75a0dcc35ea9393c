# SPDX-License-Identifier: Apache-2.0
"""KS, SID and IC: which examples there are, what is drawn, what counts as right."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.config import DataConfig
from wavlm_lightning.downstream.corpora.manifest import Manifest
from wavlm_lightning.downstream.data.plan import TrainPlan
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.task import Batch, Sources, Task
from wavlm_lightning.lengths import SAMPLE_RATE

from .conftest import FRAMING, small_config

MakeTask = Callable[..., Task[Any]]


def folder_of(tmp_path: Path, rows: list[dict[str, Any]], num_samples: int = 8_000) -> Path:
    """A manifest folder with a recording for each row."""
    columns = ["id", "path", "split", "speaker", "label", "text", "extra"]
    lines = ["\t".join(columns)]
    for number, row in enumerate(rows):
        name = f"{number}.wav"
        soundfile.write(tmp_path / name, np.full(num_samples, 0.1), SAMPLE_RATE)
        values = {"id": f"u{number}", "path": name, **row}
        values["extra"] = json.dumps(row["extra"]) if "extra" in row else ""
        lines.append("\t".join(str(values.get(column, "")) for column in columns))
    (tmp_path / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


def on(folder: Path, name: str) -> Task[Any]:
    sources = Sources("manifest", {}, Manifest(folder))
    return load_task(name)(small_config(name), sources, framing=FRAMING)


def test_ks_cuts_silence_once_from_each_background_recording(make_task: MakeTask) -> None:
    task = make_task("ks", silences=3)
    silence = task.classes.index("_silence_")
    for split in ("train", "dev"):
        found = [e for e in task.examples(split) if e.target == silence]
        assert len(found) == 6 * 3
        assert all(e.num_samples == SAMPLE_RATE for e in found)
    places = [{(e.path, e.start) for e in task.examples(s)} for s in ("train", "dev")]
    drawn = [{place for place in own if place[1] > 0} for own in places]
    assert not drawn[0] & drawn[1]


def test_ks_draws_classes_equally_often(make_task: MakeTask) -> None:
    task = make_task("ks")
    weights, targets = task.weights(), np.array([e.target for e in task.examples("train")])
    assert weights is not None
    shares = [weights[targets == c].sum() for c in range(12)]
    np.testing.assert_allclose(shares, 1 / 12)
    config = DataConfig(batch_size=32, batches_per_update=1, order="random")
    plan = TrainPlan(np.ones(len(targets), np.int64), config, seed=0, weights=weights)
    drawn = [targets[i] for update in range(200) for _, i in plan.update(update)[0]]
    counts = np.bincount(drawn, minlength=12) / len(drawn)
    assert abs(counts - 1 / 12).max() < 0.02


def test_ks_has_its_level(make_task: MakeTask) -> None:
    loud, soft = make_task("ks", gain_db=0.0), make_task("ks", gain_db=-6.0)
    example = loud.examples("test")[0]
    ratio = loud.load(example, None).waveform.std() / soft.load(example, None).waveform.std()
    assert float(ratio) == pytest.approx(10 ** (6 / 20), rel=1e-4)
    assert loud.key(example, training=False) != soft.key(example, training=False)


def test_ks_counts_classes_equally_on_dev_and_utterances_on_test(make_task: MakeTask) -> None:
    task = make_task("ks")
    predictions = {"a": (0, 0), "b": (0, 0), "c": (0, 0), "d": (1, 0)}
    assert task.score("dev", predictions) == {"accuracy": 50.0}
    assert task.score("test", predictions) == {"accuracy": 75.0}


def test_sid_knows_all_speakers_of_the_corpus(make_task: MakeTask) -> None:
    task = make_task("sid")
    speakers = [
        {e.id.split("/")[0] for e in task.examples(split)} for split in ("train", "dev", "test")
    ]
    assert speakers[0] == speakers[1] == speakers[2] == set(task.classes)
    assert task.excluded_counts() == {"utterances_of_unknown_speakers": 0}


def test_sid_crops_in_training_alone(make_task: MakeTask) -> None:
    task = make_task("sid", max_seconds=1.0)
    example = max(task.examples("train"), key=lambda e: e.num_samples)
    crops = [task.load(example, np.random.default_rng(seed)).waveform for seed in (0, 1)]
    assert [len(c) for c in crops] == [SAMPLE_RATE, SAMPLE_RATE]
    assert not torch.equal(*crops)
    assert len(task.load(example, None).waveform) == example.num_samples
    assert task.key(example, training=True) is None
    assert task.key(example, training=False) is not None


def test_sid_takes_the_splits_of_extra(tmp_path: Path) -> None:
    rows = [
        {"split": "test", "speaker": "ann", "extra": {"sid_split": split}}
        for split in ("train", "dev", "test", "train")
    ]
    task = on(folder_of(tmp_path, rows), "sid")
    assert [e.id for e in task.examples("train")] == ["u0", "u3"]
    assert [e.id for e in task.examples("dev")] == ["u1"]


def test_sid_splits_each_speaker_where_splits_share_none(tmp_path: Path) -> None:
    rows = [
        {"split": split, "speaker": f"{split}{i % 2}"}
        for split in ("train", "dev", "test")
        for i in range(6)
    ]
    task = on(folder_of(tmp_path, rows), "sid")
    assert len(task.classes) == 6
    counts = {split: len(task.examples(split)) for split in ("train", "dev", "test")}
    assert counts == {"train": 6, "dev": 6, "test": 6}


def test_sid_cuts_the_only_recording_of_a_speaker(tmp_path: Path) -> None:
    rows = [{"split": s, "speaker": s} for s in ("train", "dev", "test")]
    task = on(folder_of(tmp_path, rows), "sid")
    cuts = {(e.start, e.stop) for e in task.examples("test")}
    assert cuts == {(6400, 8000)}
    assert {(e.start, e.stop) for e in task.examples("train")} == {(0, 4800)}


def test_sid_leaves_out_and_counts_speakers_that_it_was_not_trained_on(tmp_path: Path) -> None:
    rows = [
        {"split": split, "speaker": speaker}
        for split in ("train", "dev", "test")
        for speaker in ("ann", "bob")
    ]
    task = on(folder_of(tmp_path, [*rows, {"split": "test", "speaker": "eve"}]), "sid")
    assert len(task.examples("test")) == 2
    assert task.excluded_counts() == {"utterances_of_unknown_speakers": 1}


def intents(tmp_path: Path) -> Task[Any]:
    values = [("on", "lamp"), ("off", "lamp"), ("on", "heat")]
    rows = [
        {"split": split, "extra": {"classes": {"action": a, "object": o}}}
        for split in ("train", "dev", "test")
        for a, o in values
    ]
    odd = {"split": "test", "extra": {"classes": {"action": "burn", "object": "lamp"}}}
    return on(folder_of(tmp_path, [*rows, odd]), "ic")


def test_ic_wants_every_slot_right(tmp_path: Path) -> None:
    task = intents(tmp_path)
    predictions = {"a": ([0, 1], [0, 1]), "b": ([0, 1], [0, 0]), "c": ([1, 0], [0, 1])}
    scores = task.score("test", predictions)
    assert scores["accuracy"] == pytest.approx(100 / 3)
    assert scores["accuracy_action"] == scores["accuracy_object"] * 2 == pytest.approx(200 / 3)


def test_ic_leaves_out_and_counts_values_that_it_was_not_trained_on(tmp_path: Path) -> None:
    task = intents(tmp_path)
    assert len(task.examples("test")) == 3
    assert task.excluded_counts() == {"utterances_with_unknown_values": 1}
    assert task.classes == ["action=off", "action=on", "object=heat", "object=lamp"]


def test_ic_loss_is_the_sum_over_slots(tmp_path: Path) -> None:
    task = intents(tmp_path)
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))

    class Fixed(torch.nn.Module):
        def forward(self, frames: Frames) -> torch.Tensor:
            return logits

    targets = [e.target for e in task.examples("train")]
    frames = Frames(torch.zeros(3, 1, 1), torch.ones(3, dtype=torch.int64))
    batch = Batch(torch.zeros(3, 0), torch.ones(3), targets, [], [], [], [None] * 3, [True] * 3)
    parts = [(logits[:, :2], [t[0] for t in targets]), (logits[:, 2:], [t[1] for t in targets])]
    wanted = sum(torch.nn.functional.cross_entropy(x, torch.tensor(t)) for x, t in parts)
    torch.testing.assert_close(task.loss(Fixed(), frames, batch), wanted)
    predicted = task.predict(Fixed(), frames, batch)
    assert [p for _, p in predicted] == [
        [int(row[:2].argmax()), int(row[2:].argmax())] for row in logits
    ]


def test_ic_wants_classes_in_extra(tmp_path: Path) -> None:
    rows = [{"split": split, "extra": {"other": 1}} for split in ("train", "dev", "test")]
    with pytest.raises(ValueError, match=r'column extra of u0 has no \{"classes"'):
        on(folder_of(tmp_path, rows), "ic")


def test_confusions_count_each_slot(tmp_path: Path) -> None:
    task = intents(tmp_path)
    drawn = task.plot_data("test", {"a": ([0, 1], [0, 0]), "b": ([0, 1], [1, 1])})
    first, second = drawn["confusion"]
    assert (first["title"], first["counts"]) == ("action", [[1, 1], [0, 0]])
    assert (second["title"], second["counts"]) == ("object", [[0, 0], [1, 1]])
