# SPDX-License-Identifier: Apache-2.0
"""Names from a manifest (ids, speakers, labels) write nothing outside a run's folder, and nothing
that the tools of the field cannot read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import write_speech
from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.probe import Probe
from wavlm_lightning.downstream.config import DataConfig
from wavlm_lightning.downstream.corpora.manifest import Manifest
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.features.featurizer import FeaturizerConfig
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.task import Sources, Task
from wavlm_lightning.names import original_name
from wavlm_lightning.recipes.superb.leaderboard_files import write_submission

from .conftest import small_config
from .test_tasks import OPTIM

SPEAKERS = ["a/b", "../../x", "my call 3", "x" * 300, "日本語の話者", "plain", "..", "(who)"]
COLUMNS = ("id", "path", "split", "speaker", "label", "text", "extra")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest folder whose every name is odd."""
    root = tmp_path_factory.mktemp("odd")
    lines = ["\t".join(COLUMNS)]
    for number, speaker in enumerate(SPEAKERS):
        split = ("train", "train", "train", "train", "dev", "dev", "test", "test")[number]
        for i in range(3):
            path = f"{number}-{i}.wav"
            write_speech(root / path, 1.0 + 0.1 * i, seed=10 * number + i)
            extra = {
                "phones": "AH0 B",
                "classes": {"what/else": f"{i}/.."},
                "slots": ["O", "../x"],
                "sid_split": ("train", "dev", "test")[i],
            }
            own = f"{speaker}/{i} of {number}"
            row = (own, path, split, speaker, f"la/bel {i % 2}", "A B", json.dumps(extra))
            lines.append("\t".join(row))
    (root / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def predicted(task: Task[Any], frozen: Frozen) -> dict[str, dict[str, Any]]:
    """Predictions of dev and test by an untrained head."""
    config = DataConfig(batch_size=4, batches_per_update=1, order="random", num_workers=0)
    data = TaskData(task, config, total_updates=1, seed=0)
    learner = Learner(task, frozen, FeaturizerConfig(), lr=1e-3, seed=0)
    probe = Probe(frozen, [learner], OPTIM).eval()
    found: dict[str, dict[str, Any]] = {"dev": {}, "test": {}}
    with torch.no_grad():
        for split, predictions in found.items():
            for batch in data.eval_dataloader(split):
                for _, name, value in learner.predict(probe(batch), batch):
                    predictions[name] = value
    learner.task.tune(found["dev"])
    task.chosen = learner.task.chosen
    return found


@pytest.mark.parametrize("name", [n for n in task_names() if n != "qbe"])
def test_every_task_writes_into_its_folder_alone(
    name: str, folder: Path, frozen: Frozen, tmp_path: Path
) -> None:
    kind = load_task(name)
    sources = Sources("manifest", {}, Manifest(folder), cache=tmp_path / "cache")
    variant = (kind.variants(sources) or [None])[0]
    task = kind(small_config(name), sources, framing=frozen, seed=0, variant=variant)
    found = predicted(task, frozen)
    assert found["test"]
    out = tmp_path / "far" / "down" / "predictions"
    out.mkdir(parents=True)
    paths = task.write_predictions(out, "test", found["test"])
    write_submission(out, task.submission(found["test"]))
    assert paths
    written = [p for p in tmp_path.rglob("*") if p.is_file() and "cache" not in p.parts]
    assert {p.resolve() for p in paths} <= {p.resolve() for p in written}
    for path in written:
        depth = path.relative_to(out).parts  # ValueError if it lies elsewhere
        assert all(len(part.encode()) < 200 for part in depth)
    check(name, out, set(found["test"]))


def check(name: str, out: Path, ids: set[str]) -> None:
    """Formats with blanks between fields have as many fields as they should, and all ids."""
    if name == "sd":
        for path in out.glob("*.rttm"):
            rows = [line.split(" ") for line in path.read_text().splitlines()]
            assert all(len(row) == 10 for row in rows)
            assert {original_name(row[1]) for row in rows} <= ids
    if name in ("asr", "pr", "sf"):
        lines = (out / "test.hypothesis.trn").read_text().splitlines()
        assert {original_name(line.rpartition("(")[2].removesuffix(")")) for line in lines} == ids
        assert all(line.count("(") == 1 for line in lines)
    if name == "asv":
        rows = [line.split(" ") for line in (out / "test.scores.txt").read_text().splitlines()]
        assert all(len(row) == 4 for row in rows)
        assert {original_name(side) for row in rows for side in row[1:3]} <= ids
    if name == "ss":
        assert (out / "names.tsv").is_file()
        assert list(out.glob("test.*.speaker1.wav"))
