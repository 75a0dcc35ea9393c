# SPDX-License-Identifier: Apache-2.0
"""QbE: which pairs are true, what is found, and the list for the original scorer."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.corpora import quesst14
from wavlm_lightning.downstream.corpora.manifest import Manifest
from wavlm_lightning.downstream.task import Sources, Task
from wavlm_lightning.downstream.tasks.qbe import stdlist
from wavlm_lightning.downstream.trained_task import TrainedTask

from .conftest import FRAMING, small_config
from .test_classifiers import folder_of

SPLITS = ("train", "dev", "test")
MakeTask = Callable[..., Task[Any]]


def features(task: Task[Any], split: str) -> dict[str, torch.Tensor]:
    """Random frames, a different number for each example."""
    generator = torch.Generator().manual_seed(0)
    return {
        e.id: torch.randn(20 + 3 * (i % 7), 8, generator=generator)
        for i, e in enumerate(task.examples(split))
    }


def test_nothing_is_trained(make_task: MakeTask) -> None:
    task = make_task("qbe")
    assert not isinstance(task, TrainedTask)
    assert task.splits == ("dev", "test")
    assert task.examples("train") == []


def test_dev_and_test_search_the_same_documents_for_other_queries(make_task: MakeTask) -> None:
    task = make_task("qbe")
    ids = {
        (split, kind): {e.id for e in task.examples(split) if e.target == kind}
        for split in ("dev", "test")
        for kind in ("query", "document")
    }
    assert ids["dev", "document"] == ids["test", "document"]
    assert not ids["dev", "query"] & ids["test", "query"]


def test_a_document_that_holds_the_query_is_found(
    make_task: MakeTask, corpora: dict[str, str | None]
) -> None:
    task = make_task("qbe")
    truth = quesst14.truth(Path(str(corpora["quesst14"])), "test").documents
    frames = features(task, "test")
    for query, documents in truth.items():
        for document in documents:
            if query in frames and document in frames:
                frames[document] = torch.cat([frames[document], frames[query]])
    # Frames of other queries that a document holds are no more like this one than noise.
    predictions = task.compare("test", frames, device="cpu")
    for query, scores in predictions.items():
        best = sorted(scores, key=scores.__getitem__)[-len(truth[query]) :]
        assert set(best) == truth[query]
    assert task.score("test", predictions)["mtwv"] > 0.5


def test_the_list_holds_every_document_once_with_a_decision() -> None:
    text = stdlist({"q": {"d1": 2.5, "d2": -0.00004}}, threshold=2.0)
    root = ET.fromstring(text)
    (found,) = root
    assert (root.tag, found.tag, found.attrib["termid"]) == ("stdlist", "detected_termlist", "q")
    terms = [(t.attrib["file"], t.attrib["score"], t.attrib["decision"]) for t in found]
    assert terms == [("d1", "2.5000", "YES"), ("d2", "-0.0000", "NO")]
    assert {(t.attrib["channel"], t.attrib["tbeg"], t.attrib["dur"]) for t in found} == {
        ("1", "0.000", "0.00")
    }


def manifests(tmp_path: Path, **config: str) -> Task[Any]:
    for name in ("documents", "queries"):
        (tmp_path / name).mkdir()
    documents = [
        {"id": "d0", "split": "train", "text": "one two", "extra": {"digits": True}},
        {"id": "d1", "split": "test", "text": "twotwo", "extra": {"digits": True}},
        {"id": "d2", "split": "dev", "text": "two", "extra": {"age": 3}},
    ]
    queries = [
        {"id": "q0", "split": "dev", "text": "TWO"},
        {"id": "q1", "split": "test", "text": "nine"},
        {"id": "q2", "split": "test", "text": "one  TWO"},
    ]
    sources = Sources("manifest", {}, own=Manifest(folder_of(tmp_path / "documents", documents)))
    where = str(folder_of(tmp_path / "queries", queries))
    values = {"gain_db": 0.0, "threshold": 2.0, "queries": where} | config
    kind = load_task("qbe")
    return kind(kind.Config(**values), sources, framing=FRAMING)


def test_a_document_of_a_manifest_holds_whole_words(tmp_path: Path) -> None:
    task: Any = manifests(tmp_path)
    assert task._truth["dev"].documents == {"q0": {"d0", "d2"}}
    assert task._truth["test"].documents == {"q1": set(), "q2": {"d0"}}
    assert task.excluded_counts() == {
        "dev_queries_in_no_document": 0,
        "test_queries_in_no_document": 1,
    }


def test_documents_may_be_those_with_a_key(tmp_path: Path) -> None:
    task = manifests(tmp_path, documents="digits")
    assert [e.id for e in task.examples("dev")] == ["q0", "d0", "d1"]


@pytest.mark.parametrize("lacking", ["documents", "queries"])
def test_documents_and_queries_need_texts(lacking: str, tmp_path: Path) -> None:
    folders = {}
    for name in ("documents", "queries"):
        (tmp_path / name).mkdir()
        rows = [{"split": split, "text": "" if name == lacking else "a"} for split in SPLITS]
        folders[name] = folder_of(tmp_path / name, rows)
    sources = Sources("manifest", {}, Manifest(folders["documents"]))
    kind: Any = load_task("qbe").Config
    config = kind(gain_db=0.0, threshold=2.0, queries=str(folders["queries"]))
    with pytest.raises(ValueError, match=rf"/{lacking}: none of 3 recordings has a text"):
        load_task("qbe")(config, sources, framing=FRAMING)


def test_a_manifest_needs_queries(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"task\.queries is not set"):
        load_task("qbe")(
            small_config("qbe"),
            Sources("manifest", {}, Manifest(folder_of(tmp_path, [{"split": "dev", "text": "a"}]))),
            framing=FRAMING,
        )
