# SPDX-License-Identifier: Apache-2.0
"""A corpus in a layout of a user's own serves the tasks whose fields it has."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.downstream.conftest import FRAMING, small_config
from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.corpora.corpus import Recording, measured
from wavlm_lightning.downstream.corpora.layouts import load_layout
from wavlm_lightning.downstream.corpora.lengths import audio_lengths
from wavlm_lightning.downstream.task import Sources

Record = Callable[..., Path]
LAYOUT = '''
from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording


class Folders(Corpus):
    """<split>/<speaker>/<word>.wav"""

    def recordings(self):
        return [
            Recording("-".join(p.relative_to(self.root).with_suffix("").parts), p,
                      p.parts[-3], speaker=p.parts[-2], text=p.stem, label=p.stem)
            for p in sorted(self.root.glob("*/*/*.wav"))
        ]
'''


@pytest.fixture
def folder(tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two words of two speakers in each split, and a module that reads them."""
    for split in ("train", "dev", "test"):
        for speaker in ("ann", "bob"):
            for number, word in enumerate(("no", "yes")):
                record(f"corpus/{split}/{speaker}/{word}.wav", 8_000, seed=number)
    (tmp_path / "my_folders.py").write_text(LAYOUT)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "corpus"


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("ks", [0, 1, 0, 1]),
        ("sid", [0, 0, 1, 1]),
        ("asr", ["NO", "YES", "NO", "YES"]),
        ("sd", [("test", i) for i in range(4)]),
    ],
)
def test_tasks_read_what_they_need_of_it(name: str, targets: list[object], folder: Path) -> None:
    sources = Sources("manifest", {}, load_layout("my_folders:Folders")(folder))
    task = load_task(name)(small_config(name), sources, framing=FRAMING)
    found = task.examples("test")
    assert [e.target for e in found] == targets
    assert [e.id for e in found] == [f"test-{s}-{w}" for s in ("ann", "bob") for w in ("no", "yes")]
    assert all(e.num_samples == 8_000 for e in found)


def test_a_field_that_it_lacks_is_named(folder: Path) -> None:
    sources = Sources("manifest", {}, load_layout("my_folders:Folders")(folder))
    with pytest.raises(ValueError, match=r"no\.wav: column extra of train-ann-no has no"):
        load_task("ic")(small_config("ic"), sources, framing=FRAMING)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_folders", "must be module:Class"),
        ("no_such_module_here:Folders", "there is no module no_such_module_here"),
        ("my_folders:Nothing", "there is no class Nothing in my_folders"),
        ("my_folders:Recording", "Recording must be a class of"),
    ],
)
def test_layouts_that_are_none_are_named(name: str, message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=rf"data\.layout.*{message}"):
        load_layout(name)


def test_what_a_module_needs_is_not_taken_for_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import no_such_module_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_module_here"):
        load_layout("needs_more:Folders")


def test_stretches_end_with_their_file_and_each_file_is_measured_once(record: Record) -> None:
    path, seen = record("a.wav", 8_000), []

    def lengths(files: list[Path]) -> list[int]:
        seen.extend(files)
        return audio_lengths(files)

    rows = [Recording("1", path, start=100, stop=200), Recording("2", path, stop=9_000)]
    found = measured([*rows, Recording("3", path, start=50)], lengths)  # type: ignore[arg-type]
    assert [(r.start, r.stop) for r in found] == [(100, 200), (0, 8_000), (50, 8_000)]
    assert seen == [path]
