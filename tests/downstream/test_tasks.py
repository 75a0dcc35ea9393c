# SPDX-License-Identifier: Apache-2.0
"""Every task on its tiny corpus: examples, loss, predictions, score; batch mates do not matter."""

import contextlib
import copy
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wavlm_lightning.audio import write_audio
from wavlm_lightning.downstream import load_task, task_names, tasks
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.probe import Probe
from wavlm_lightning.downstream.config import DataConfig, OptimConfig
from wavlm_lightning.downstream.corpora import librimix
from wavlm_lightning.downstream.corpora.manifest import Manifest
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.features.featurizer import FeaturizerConfig
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.metrics.der import Turn
from wavlm_lightning.downstream.task import Batch, Sources, Task
from wavlm_lightning.downstream.upstreams.fbank import Fbank
from wavlm_lightning.runtime import to_device

from .conftest import FRAMING, TASKS, small_config

MakeTask = Callable[..., Task[Any]]
CONFIG = DataConfig(batch_size=4, batches_per_update=1, order="random", num_workers=0)
OPTIM = OptimConfig(
    name="adam",
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    clip=1.0,
    total_updates=3,
)


def probe_and_data(task: Task[Any], frozen: Frozen) -> tuple[Probe, TaskData]:
    data = TaskData(task, CONFIG, total_updates=3, seed=0)
    learner = Learner(task, frozen, FeaturizerConfig(), lr=OPTIM.lr, seed=0)
    return Probe(frozen, [learner], OPTIM).eval(), data


def frames_of(probe: Probe, batch: Batch) -> Frames:
    frames: Frames = probe.learners[0](probe(batch), batch)
    return frames


def predict(probe: Probe, batch: Batch) -> list[Any]:
    return [value for _, _, value in probe.all_learners()[0].predict(probe(batch), batch)]


def rows(task: Task[Any], data: TaskData, split: str) -> list[Batch]:
    """The split's examples one by one."""
    loader = data.eval_dataloader(split)
    dataset: Any = loader.dataset
    return [dataset[[(0, i)]] for i in range(len(data.splits[split]))]


def plain(prediction: Any) -> Any:
    """What can be compared of a prediction."""
    if isinstance(prediction, dict):
        return {k: plain(v) for k, v in prediction.items() if k not in ("reference", "turns")}
    if isinstance(prediction, np.ndarray):
        return torch.from_numpy(prediction)
    if isinstance(prediction, str):  # texts can only be the same
        return torch.tensor([ord(character) for character in prediction])
    return prediction


def test_all_tasks_are_found_by_name() -> None:
    assert {*TASKS, "qbe"} <= set(task_names())
    assert all(load_task(name).name == name for name in task_names())


def test_an_unknown_task_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="no task as; there are asr, asv, ctc, er, ic, ks, pr,"):
        load_task("as")


@pytest.mark.parametrize("name", TASKS)
def test_an_utterance_is_predicted_the_same_alone_and_in_a_batch(
    make_task: MakeTask, frozen: Frozen, name: str
) -> None:
    task = make_task(name)
    probe, data = probe_and_data(task, frozen)
    alone = {}
    with torch.no_grad():
        for batch in rows(task, data, "test"):
            alone[batch.ids[0]] = predict(probe, batch)[0]
        batches = list(data.test_dataloader())
        assert any(len(set(batch.lengths.tolist())) > 1 for batch in batches)
        for batch in batches:
            for id_, predicted in zip(batch.ids, predict(probe, batch), strict=True):
                ours, theirs = plain(predicted), plain(alone[id_])
                assert not isinstance(ours, dict) or ours  # something is compared
                torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", TASKS)
def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_utterances(
    make_task: MakeTask, frozen: Frozen, name: str
) -> None:
    """However much padding the batch holds; diarization counts frames, not utterances."""
    task = make_task(name)
    probe, data = probe_and_data(task, frozen)
    dataset: Any = data.eval_dataloader("train").dataset
    dataset.training = True
    learner = probe.all_learners()[0]

    def loss(places: list[tuple[int, int]]) -> tuple[float, int]:
        batch = dataset[places]
        frames = frames_of(probe, batch)
        return float(learner.task.loss(learner.head, frames, batch)), int(frames.lengths.sum())

    places = [(0, i) for i in np.argsort(data._lengths("train"))[[0, 1, -2, -1]].tolist()]
    lengths = dataset[places].lengths
    with torch.no_grad():
        together, _ = loss(places)
        alone = [loss([place]) for place in places]
    assert name in ("asv", "ks", "sid") or int(lengths.min()) < 0.9 * int(lengths.max())
    weights = [frames if name == "sd" else 1 for _, frames in alone]
    mean = np.average([value for value, _ in alone], weights=weights)
    assert together == pytest.approx(mean, rel=1e-3, abs=1e-4)


def ctc_on_a_device(log_probs: Tensor, targets: Tensor, *lengths: Tensor, **_: Any) -> Tensor:
    assert [x.device.type for x in (targets, *lengths)] == ["meta", "cpu", "cpu"]
    return log_probs.mean()


@pytest.mark.parametrize("name", TASKS)
def test_a_training_step_reads_nothing_that_the_device_computes(
    make_task: MakeTask, frozen: Frozen, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors without data stand for a device's: reading one, or waiting for one, raises."""
    # They have neither autocast, which is the upstream's alone, nor CTC, which reads lengths.
    monkeypatch.setattr(Frozen, "_autocast", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(torch.nn.functional, "ctc_loss", ctc_on_a_device)
    task = make_task(name)
    probe, data = probe_and_data(task, copy.deepcopy(frozen))
    dataset: Any = data.eval_dataloader("train").dataset
    dataset.training = True
    batch = to_device(dataset[[(0, i) for i in range(4)]], torch.device("meta"))
    assert batch.waveforms.device.type == "meta"
    learner = probe.to("meta").all_learners()[0]
    loss = learner.loss(probe(batch), batch, 0)
    loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is not None for p in learner.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", TASKS)
def test_a_few_updates_on_one_batch_lower_the_loss(
    make_task: MakeTask, frozen: Frozen, name: str
) -> None:
    task = make_task(name)
    probe, data = probe_and_data(task, frozen)
    batch = next(iter(data.eval_dataloader("train")))
    dataset: Any = data.eval_dataloader("train").dataset
    dataset.training = True
    batch = dataset[[(0, i) for i in range(4)]]
    optimizer = torch.optim.Adam(probe.learners.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = probe.all_learners()[0].loss(probe(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in probe.learners.parameters())
    assert all(p.grad is None for p in probe.upstream.parameters())


@pytest.mark.parametrize("name", TASKS)
def test_examples_are_the_same_each_time_and_splits_share_no_id(
    make_task: MakeTask, name: str
) -> None:
    first, second = make_task(name), make_task(name)
    ids = {}
    for split in ("train", "dev", "test"):
        assert list(first.examples(split)) == list(second.examples(split))
        ids[split] = {e.id for e in first.examples(split)}
    assert not ids["train"] & ids["dev"] | ids["train"] & ids["test"] | ids["dev"] & ids["test"]


def test_asv_never_trains_on_a_speaker_of_dev_or_test(make_task: MakeTask) -> None:
    task = make_task("asv")
    speakers = {
        split: {e.id.split("/")[0] for e in task.examples(split)}
        for split in ("train", "dev", "test")
    }
    assert len(speakers["dev"]) == 3
    assert not speakers["train"] & (speakers["dev"] | speakers["test"])
    assert not speakers["dev"] & speakers["test"]


def test_asv_counts_and_leaves_out_short_training_utterances(make_task: MakeTask) -> None:
    all_of_them = make_task("asv", min_seconds=0.1)
    fewer = make_task("asv", min_seconds=4.0)
    short = fewer.excluded_counts()["train_too_short"]
    assert short > 0
    assert len(fewer.examples("train")) == len(all_of_them.examples("train")) - short


def test_asv_wants_two_speakers_to_choose_the_checkpoint(make_task: MakeTask) -> None:
    with pytest.raises(
        ValueError, match=r"task\.held_out_speakers must be 0 or at least 2 \(got 1\)"
    ):
        make_task("asv", held_out_speakers=1)


def test_asv_without_held_out_speakers_trains_on_all_but_the_test_speakers(
    make_task: MakeTask,
) -> None:
    some, every = make_task("asv"), make_task("asv", held_out_speakers=0)
    assert len(every.classes) == len(some.classes) + 3
    speakers = {e.id.split("/")[0] for e in every.examples("dev")}
    assert speakers == {e.id.split("/")[0] for e in every.examples("train")}  # few: all are watched
    assert not some.chosen_on_test
    assert every.chosen_on_test


def test_a_file_must_define_one_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("none", 0), ("two", 2)):
        classes = "".join(f"class T{i}(Task): pass\n" for i in range(count))
        importing = "from wavlm_lightning.downstream.task import Task"
        (tmp_path / f"{name}.py").write_text(f"{importing}\n{classes}")
    monkeypatch.setattr(tasks, "__path__", [str(tmp_path)])
    for name, found in (("none", "none"), ("two", "T0, T1")):
        monkeypatch.delitem(sys.modules, f"wavlm_lightning.downstream.tasks.{name}", raising=False)
        with pytest.raises(ValueError, match=rf"{name}\.py must define one task \(got {found}\)"):
            load_task(name)


def test_a_task_that_was_built_for_another_stride_is_refused(
    make_task: MakeTask, frozen: Frozen
) -> None:
    task: Any = make_task("sd")
    task.framing = Slow()
    with pytest.raises(ValueError, match="frames every 16000 samples, the upstream gives one ever"):
        Learner(task, frozen, FeaturizerConfig(), lr=1.0, seed=0)


def test_asv_halves_of_a_recording_share_nothing_where_silence_is_removed(tmp_path: Path) -> None:
    rows = ["id\tpath\tsplit\tspeaker"]
    for split in ("train", "dev", "test"):
        for speaker in ("ann", "bob"):
            ramp = np.arange(1, 8_001, dtype=np.float32) / 10_000  # every sample another value
            name = f"{split}-{speaker}.wav"
            write_audio(tmp_path / name, np.concatenate([np.zeros(6_000, np.float32), ramp]))
            rows.append(f"{name}\t{name}\t{split}\t{split}-{speaker}")
    (tmp_path / "manifest.tsv").write_text("\n".join(rows) + "\n")
    config = dataclasses.replace(small_config("asv"), remove_silence=True, gain_db=0.0)
    sources = Sources("manifest", {}, Manifest(tmp_path))
    task: Any = load_task("asv")(config, sources, framing=FRAMING)
    first, second = (task.load(e, None).waveform for e in task.examples("test")[:2])
    assert len(first) + len(second) == sum(e.num_samples for e in task.examples("test")[:2])
    assert len(first) > 3_000
    assert float(first.max()) < float(second.min())


class Slow:
    """An upstream with a frame a second."""

    stride = 16_000

    def num_frames(self, num_samples: int) -> int:
        return num_samples // 16_000


def test_asr_counts_texts_with_more_characters_than_frames(make_task: MakeTask) -> None:
    task = make_task("asr")
    unknown = {"dev_unknown_symbols": 0, "test_unknown_symbols": 0}
    assert task.excluded_counts() == {"train_texts_longer_than_frames": 0, **unknown}
    assert task.warnings() == []
    task.framing = Slow()
    count = len(task.examples("train"))
    assert task.excluded_counts() == {"train_texts_longer_than_frames": count, **unknown}
    with pytest.raises(ValueError, match=rf"each of the {count} training texts has more symbols"):
        task.warnings()


@pytest.mark.parametrize(("text", "frames"), [("AB", 4), ("AA", 5), ("AAA BB", 11)])
def test_ctc_needs_a_blank_between_equal_symbols(
    make_task: MakeTask, text: str, frames: int
) -> None:
    """Letters, a word end, the end of the text, and blanks; as torch's own loss has it."""
    task: Any = make_task("asr")
    assert task._needed(text) == frames
    encoded = task.encode(text)
    for length, finite in ((frames, True), (frames - 1, False)):
        loss = torch.nn.functional.ctc_loss(
            torch.zeros(length, 1, len(task.characters)).log_softmax(-1),
            torch.tensor([encoded]),
            torch.tensor([length]),
            torch.tensor([len(encoded)]),
        )
        assert bool(torch.isfinite(loss)) == finite


def test_frames_are_those_that_the_upstream_gives(frozen: Frozen) -> None:
    fbank = Frozen(Fbank())
    for upstream in (frozen, fbank):
        for samples in (400, 719, 720, 16_000, 33_333):
            features = upstream(torch.randn(1, samples), torch.tensor([samples]))
            assert upstream.num_frames(samples) == int(features.lengths)


def test_sd_refuses_a_mixture_of_three_speakers(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = librimix.reference_turns

    def crowded(root: Path, split: str) -> dict[str, list[Turn]]:
        turns = read(root, split)
        first = min(turns)
        return {**turns, first: [Turn(s, 0.0, 1.0) for s in "abc"]}

    monkeypatch.setattr(librimix, "reference_turns", crowded)
    with pytest.raises(ValueError, match="1 recordings of train have more than 2 speakers"):
        make_task("sd")


def test_er_tests_one_session_and_trains_on_the_others(make_task: MakeTask) -> None:
    task = make_task("er")
    assert {e.id[:5] for e in task.examples("test")} == {"Ses01"}
    others = {e.id[:5] for s in ("train", "dev") for e in task.examples(s)}
    assert others == {"Ses02", "Ses03", "Ses04", "Ses05"}
    total = len(task.examples("train")) + len(task.examples("dev"))
    assert len(task.examples("train")) == int(0.8 * total)


def test_er_merges_excited_into_happy_and_leaves_other_emotions_out(make_task: MakeTask) -> None:
    task = make_task("er")
    assert {e.target for s in ("train", "dev", "test") for e in task.examples(s)} == {0, 1, 2, 3}


def test_sd_chooses_threshold_and_median_on_dev(make_task: MakeTask, frozen: Frozen) -> None:
    task = make_task("sd")
    probe, data = probe_and_data(task, frozen)
    predictions = {}
    with torch.no_grad():
        for batch in data.val_dataloader():
            values = predict(probe, batch)
            predictions |= dict(zip(batch.ids, values, strict=True))
    task = probe.task
    chosen = task.tune(predictions)
    rates = task._rates(predictions)  # type: ignore[attr-defined]
    assert len(rates) == 10
    assert chosen["der"] == min(rates.values())
    scored = task.score("test", predictions)
    assert scored["der"] == chosen["der"] == scored["der_best_of_10_test"]


def test_ss_masks_of_one_give_the_mixture_back(make_task: MakeTask, frozen: Frozen) -> None:
    task = make_task("ss")
    probe, data = probe_and_data(task, frozen)
    batch = next(iter(data.test_dataloader()))

    class Ones(torch.nn.Module):
        def forward(self, frames: Any) -> torch.Tensor:
            return torch.ones(len(frames.x), 2, frames.x.shape[1], 257)

    estimates = probe.task.separate(Ones(), frames_of(probe, batch), batch)  # type: ignore[attr-defined]
    for row, length in enumerate(batch.lengths.tolist()):
        assert estimates[row].shape == (2, length)
        torch.testing.assert_close(
            estimates[row][0], batch.waveforms[row, :length], rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("name", TASKS)
def test_batches_and_bfloat16_move_what_a_head_gives_by_little(
    make_task: MakeTask, frozen: Frozen, name: str
) -> None:
    """Where features are not kept, a score depends on both, within what README states."""
    task = make_task(name)
    probe, data = probe_and_data(task, frozen)
    learner = probe.all_learners()[0]
    rounded = Frozen(frozen.upstream, precision="bfloat16")  # type: ignore[arg-type]
    exact = Frozen(frozen.upstream, precision="float32")  # type: ignore[arg-type]

    def outputs(upstream: Frozen, batches: list[Batch]) -> dict[str, torch.Tensor]:
        found = {}
        for batch in batches:
            frames = learner(upstream(batch.waveforms, batch.lengths), batch)
            out = learner.head(frames)
            rows = out.embedding if name == "asv" else out
            for id_, row, length in zip(batch.ids, rows, frames.lengths.tolist(), strict=True):
                in_time = row.ndim > 1 and row.shape[0] == frames.x.shape[1]
                found[id_] = (
                    row[:length] if in_time else row[..., :length, :] if row.ndim > 1 else row
                )
        return found

    with torch.no_grad():
        alone = outputs(exact, rows(task, data, "test"))
        together = list(data.test_dataloader())
        for upstream, most in ((exact, 1e-4), (rounded, 0.03)):
            found = outputs(upstream, together)
            assert found.keys() == alone.keys()
            for id_, wanted in alone.items():
                moved = float((found[id_] - wanted).norm() / wanted.norm())
                assert moved < most, (id_, moved)
