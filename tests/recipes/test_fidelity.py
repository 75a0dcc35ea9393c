# SPDX-License-Identifier: Apache-2.0
"""Every published value of the tasks is the protocol's, or the difference is named."""

from pathlib import Path

import pytest
import yaml

from wavlm_lightning.config import flat
from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.recipes.report import fidelity
from wavlm_lightning.recipes.report.fidelity import mechanisms, read_mechanisms
from wavlm_lightning.shipped import config_file

CONFIGS = Path(__file__).parent.parent.parent / "configs"
# Keys of ours that the protocols do not have, or that change no score.
OURS = {
    "asr": {"task.lm.file", "task.lm.words"},
    "asv": {"task.dev_utterances", "task.dev_trials", "run.validate_updates"},
    "ks": {"task.silences"},
    "pr": {"task.lexicons"},
    "ss": {"task.max_seconds", "task.keep"},
}
EVERYWHERE = {"run.checkpoint_updates"}


@pytest.mark.parametrize("task", task_names())
def test_every_value_is_published_or_its_difference_is_named(task: str) -> None:
    found = read_mechanisms([task])
    assert [m for m in found if not m.told] == []
    assert sum(m.reference is not None for m in found) >= (2 if task == "qbe" else 10)


@pytest.mark.parametrize("task", task_names())
def test_every_value_of_ours_is_compared(task: str) -> None:
    """A key that is added to a published section wants a line in the table too."""
    about = yaml.safe_load((CONFIGS / "superb" / f"{task}.yaml").read_text())
    sections = {k: about[k] for k in ("task", "data", "optim", "run") if k in about}
    compared = {m.name for m in read_mechanisms([task])}
    left = set(flat(sections)) - compared - OURS.get(task, set()) - EVERYWHERE
    assert left - {"data.order"} == set()
    if "data.order" in left:  # bucketed batches are a difference in words
        assert about["data"]["order"] == "bucketed"
        assert "batches" in compared


def test_a_changed_value_is_seen() -> None:
    reference = {"values": {"optim.lr": 1e-4, "task.hidden": 256}, "differs": {"dev": "drawn once"}}
    good, wrong, words = mechanisms("er", reference, {"optim.lr": 1e-4, "task.hidden": 128})
    assert (good.told, wrong.told, words.told) == (True, False, True)
    reference["differs"] = {"task.hidden": "128: narrower"}
    for ours, told in ((128, True), (64, False)):
        _, one = mechanisms("er", reference, {"optim.lr": 1e-4, "task.hidden": ours})
        assert one.told == told


def test_a_person_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert fidelity.main(["asv"]) == 0
    said = capsys.readouterr().out
    assert "| asv | task.margin | 0.4 | the same |" in said
    assert "| asv | task.held_out_speakers | 0 | 40: they choose the checkpoint" in said
    assert fidelity.main(["st"]) == 1
    assert "no task st; there are asr, asv" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["base", "base_plus", "large"])
def test_published_pretraining_hides_equally_many_frames_in_a_batch(name: str) -> None:
    """As fairseq and UniSpeech do."""
    about = yaml.safe_load((CONFIGS / "pretrain" / f"{name}.yaml").read_text())
    mask = {"prob": 0.8, "length": 10, "min_spans": 2, "equalize": True}
    assert about["mask"] == mask


def test_tasks_of_the_table_are_those_there_are() -> None:
    published = yaml.safe_load(config_file("fidelity", "superb.yaml").read_text())
    assert sorted(published) == sorted(task_names())
    assert all(load_task(name).name == name for name in published)
