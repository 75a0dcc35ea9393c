# SPDX-License-Identifier: Apache-2.0
"""What learning nothing earns in each task: the right values, from references alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.metrics.der import Turn
from wavlm_lightning.downstream.metrics.eer import equal_error_rate
from wavlm_lightning.downstream.task import Task

from .test_tasks import frames_of, predict, probe_and_data

MakeTask = Callable[..., Task[Any]]


@pytest.mark.parametrize("name", task_names())
def test_every_task_says_what_its_trivial_answer_is(name: str) -> None:
    assert load_task(name).trivial_answer


@pytest.mark.parametrize("name", ["er", "ks", "sid"])
def test_of_classes_it_is_the_most_frequent_one_of_train(make_task: MakeTask, name: str) -> None:
    task = make_task(name)
    train = [e.target for e in task.examples("train")]
    common = max(sorted(set(train)), key=train.count)
    assert train.count(common) > 0
    test = [e.target for e in task.examples("test")]
    predictions = {str(i): (target, -1) for i, target in enumerate(test)}
    found = task.trivial(predictions)["accuracy"]
    ties = [c for c in set(train) if train.count(c) == train.count(common)]
    assert found in [pytest.approx(100 * test.count(c) / len(test)) for c in ties]


def test_of_intents_all_three_slots_must_fit(make_task: MakeTask) -> None:
    task = make_task("ic")
    train = [e.target for e in task.examples("train")]
    common = max(train, key=train.count)
    other = next(t for t in train if t != common)
    assert task.trivial({"a": (common, None), "b": (other, None)})["accuracy"] == 50.0


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("asr", "A TEXT", {"wer": 100.0, "cer": 100.0}),
        ("pr", "AH0 B", {"per": 100.0}),
        (
            "sf",
            "PLAY B-artist ABBA E-artist",
            {"slot_type_f1": 0.0, "slot_value_cer": 100.0, "wer": 100.0},
        ),
    ],
)
def test_of_texts_it_is_an_empty_one(
    make_task: MakeTask, name: str, text: str, wanted: dict[str, float]
) -> None:
    predictions = {"a": {"reference": text, "hypothesis": text}}
    assert make_task(name).trivial(predictions) == wanted


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ((0, 5), (4, 6), 6 / 7),  # one: 4 s of false alarm, 1 s missed, 1 s confused, of 7 s
        ((0, 10), (2, 10), 2 / 18),  # both: 2 s without the second, of 18 s
    ],
)
def test_of_diarization_it_is_speakers_who_never_stop(
    make_task: MakeTask, first: tuple[int, int], second: tuple[int, int], wanted: float
) -> None:
    turns = [Turn("a", *first), Turn("b", *second)]
    predictions = {"x": {"turns": turns, "seconds": 10.0, "probabilities": np.zeros((500, 2))}}
    assert make_task("sd").trivial(predictions) == {"der": pytest.approx(100 * wanted)}


def test_of_verification_it_is_the_cosine_of_mean_frames(
    make_task: MakeTask, frozen: Frozen
) -> None:
    task = make_task("asv")
    probe, data = probe_and_data(task, frozen)
    means, predictions = {}, {}
    with torch.no_grad():
        for batch in data.test_dataloader():
            predictions |= dict(zip(batch.ids, predict(probe, batch), strict=True))
            frames: Frames = frames_of(probe, batch)
            for id_, x, length in zip(batch.ids, *frames, strict=True):
                means[id_] = x[:length].mean(0)
    trials = task._trials["test"]  # type: ignore[attr-defined]
    cosines = [float(torch.cosine_similarity(means[t.enrol], means[t.test], dim=0)) for t in trials]
    wanted = equal_error_rate(cosines, [t.same for t in trials])
    assert task.trivial(predictions)["eer"] == pytest.approx(wanted, abs=0.5)
    assert 0 < wanted < 100


def test_of_separation_and_search_it_is_zero(make_task: MakeTask) -> None:
    assert make_task("ss").trivial({}) == {"si_sdri": 0.0}
    assert load_task("qbe").trivial(None, {}) == {"mtwv": 0.0}  # type: ignore[arg-type]
