# SPDX-License-Identifier: Apache-2.0
"""Files and folders of weights that cannot be used: one line that names the file, no code run."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import wavlm_lightning.recipes.superb.__main__ as superb
from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.model.checkpoint import save_released, save_transformers
from wavlm_lightning.recipes.export.__main__ import main as export

from .test_bad_task_input import LFS, refused

pytestmark = pytest.mark.bad_input
Spoil = Callable[[Path], Any]


class Writes:
    """Unpickling it would leave a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def released(tmp_path: Path, tiny: WavLMConfig) -> Path:
    """A file of the released layout."""
    save_released(WavLM(tiny), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


@pytest.fixture
def folder(tmp_path: Path, tiny: WavLMConfig) -> Path:
    """A folder of transformers."""
    root = tmp_path / "weights"
    root.mkdir()
    save_transformers(WavLM(tiny), root)
    return root


def content(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Another content of a torch file."""

    def spoil(path: Path) -> None:
        whole = torch.load(path, weights_only=True)
        whole = change(whole) or whole
        torch.save(whole, path)

    return spoil


def put(name: str, value: float) -> Spoil:
    return content(lambda whole: whole["model"][name].view(-1)[0].fill_(value) and None)


def code(path: Path) -> None:
    torch.save({"cfg": {}, "model": {}, "more": Writes(path.with_name("written"))}, path)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Writes(path.with_name("written"))))


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "no weights")


FILES: list[tuple[str, Spoil, tuple[str, ...]]] = [
    ("missing", Path.unlink, ("neither a file, a folder",)),
    ("empty", lambda p: p.write_bytes(b""), ("cannot be read", "empty")),
    ("text", lambda p: p.write_text("no weights at all"), ("cannot be read",)),
    ("zeros", lambda p: p.write_bytes(bytes(4096)), ("cannot be read",)),
    ("cut off", lambda p: p.write_bytes(p.read_bytes()[:5000]), ("cannot be read",)),
    ("Git LFS", lambda p: p.write_text(LFS), ("Git LFS",)),
    ("another archive", archive, ("cannot be read",)),
    ("code", code, ("cannot be read",)),
    ("a bare pickle", bare_pickle, ("cannot be read",)),
    ("a list", content(lambda _: [1]), ("is no checkpoint", "list")),
    ("other keys", content(lambda _: {"weights": 1}), ("no WavLM checkpoint", "weights")),
    ("cfg is a text", content(lambda w: w.update(cfg="large")), ("cfg",)),
    ("cfg is empty", content(lambda w: w.update(cfg={})), ("cfg: missing encoder_layers",)),
    (
        "a cfg value of another type",
        content(lambda w: w["cfg"].update(encoder_layers="two")),
        ("num_layers must be a whole number (got 'two')",),
    ),
    ("model is a list", content(lambda w: w.update(model=[])), ("model",)),
    ("a tensor is a number", content(lambda w: w["model"].update(mask_emb=1)), ("mask_emb",)),
    ("a tensor is missing", content(lambda w: w["model"].__delitem__("mask_emb")), ("mask_",)),
    (
        "a tensor too many",
        content(lambda w: w["model"].update(strange=torch.ones(1))),
        ("strange",),
    ),
    (
        "another shape",
        content(lambda w: w["model"].update(mask_emb=torch.ones(3))),
        ("mask_embedding must have shape (32,) (got (3,))",),
    ),
    ("NaN", put("encoder.layers.1.fc1.weight", float("nan")), ("NaN", "1.feed_forward_in")),
    ("infinite", put("post_extract_proj.bias", float("inf")), ("NaN or infinite",)),
    (
        "layers that its cfg does not name",
        content(lambda w: w["cfg"].update(encoder_layers=1)),
        ("left over",),
    ),
]


def ends_in_one_line(
    source: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> str:
    """As upstream of a task and for the export; nothing is written."""
    line = refused(capsys, lambda: superb.main(["er", str(source), *words]))
    again = refused(capsys, lambda: export([str(source), f"--out={tmp_path / 'out'}"]))
    assert source.name in line
    assert source.name in again
    assert not (tmp_path / "written").exists()
    assert not (tmp_path / "out").exists()
    return line


@pytest.mark.parametrize(("name", "spoil", "wanted"), FILES, ids=[case[0] for case in FILES])
def test_a_file_that_holds_no_weights(
    name: str,
    spoil: Spoil,
    wanted: tuple[str, ...],
    released: Path,
    probe_words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(released)
    line = ends_in_one_line(released, probe_words, tmp_path, capsys)
    for part in wanted:
        assert part in line


def config(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Another config.json."""

    def spoil(root: Path) -> None:
        path = root / "config.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return spoil


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Spoil:
    """Another model.safetensors."""

    def spoil(root: Path) -> None:
        path = root / "model.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path)

    return spoil


def pickled(root: Path) -> None:
    (root / "model.safetensors").unlink()
    torch.save({"a": Writes(root.parent / "written")}, root / "pytorch_model.bin")


def index(text: str) -> Spoil:
    def spoil(root: Path) -> None:
        (root / "model.safetensors").unlink()
        (root / "model.safetensors.index.json").write_text(text)

    return spoil


def file(name: str, text: str) -> Spoil:
    return lambda root: (root / name).write_text(text)


FOLDERS: list[tuple[str, Spoil, tuple[str, ...]]] = [
    ("nothing in it", lambda p: [f.unlink() for f in p.iterdir()], ("it has no config.json",)),
    ("no weights", lambda p: (p / "model.safetensors").unlink(), ("no model.safetensors",)),
    ("no configuration", lambda p: (p / "config.json").unlink(), ("it has no config.json",)),
    ("configuration is no JSON", file("config.json", "{"), ("config.json",)),
    ("configuration is a list", file("config.json", "[]"), ("config.json",)),
    ("configuration is empty", file("config.json", "{}"), ("config.json",)),
    ("extractor is no JSON", file("preprocessor_config.json", "{"), ("preprocessor_config.json",)),
    ("another model", config(lambda c: c.update(model_type="bert")), ("config.json", "bert")),
    ("code on a hub", config(lambda c: c.update(model_type="x", auto_map={"AutoModel": "a.B"})),
     ("config.json", "x")),
    ("a size that is a text", config(lambda c: c.update(hidden_size="x")), ("config.json",)),
    ("a size of zero", config(lambda c: c.update(num_attention_heads=0)), ("config.json",)),
    ("weights are a text", file("model.safetensors", "x" * 99), ("model.safetensors",)),
    ("weights are empty", file("model.safetensors", ""), ("model.safetensors",)),
    ("weights are a pointer", file("model.safetensors", LFS), ("model.safetensors", "Git LFS")),
    ("a tensor is missing", weights(lambda s: s.pop("masked_spec_embed")), ("missing",)),
    ("NaN", weights(lambda s: s["masked_spec_embed"].fill_(float("nan"))), ("NaN or infinite",)),
    ("a pickle with code", pickled, ("pytorch_model.bin",)),
    ("an index is no JSON", index("{"), ("index.json",)),
    ("an index without files", index('{"weight_map": {"a": "part-1.safetensors"}}'), ("part-1",)),
    ("an index without names", index("{}"), ("index.json", "weight_map")),
    ("an index that leads elsewhere", index('{"weight_map": {"a": "../../x.safetensors"}}'),
     ("x.safetensors",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spoil", "wanted"), FOLDERS, ids=[case[0] for case in FOLDERS])
def test_a_folder_that_holds_no_weights(
    name: str,
    spoil: Spoil,
    wanted: tuple[str, ...],
    folder: Path,
    probe_words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(folder)
    line = ends_in_one_line(folder, probe_words, tmp_path, capsys)
    for part in wanted:
        assert part in line


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (
            lambda c: c.update(model_type="hubert", auto_map={"AutoModel": "m.B"}),
            "weights does not fit its configuration: missing nothing; left over encoder.layers.0",
        ),
        (lambda c: c.update(model_type="wav2vec2", hidden_size="x"), "load as a wav2vec2"),
        (lambda c: c.update(model_type="hubert", conv_stride=[1, 2]), "load as a hubert"),
    ],
    ids=["code", "a size that is a text", "another front end"],
)
def test_a_folder_of_another_model_that_does_not_load(
    change: Any,
    wanted: str,
    folder: Path,
    probe_words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config(change)(folder)
    (folder / "m.py").write_text(f"open({str(tmp_path / 'written')!r}, 'w')")
    line = refused(capsys, lambda: superb.main(["er", str(folder), *probe_words]))
    assert wanted in line
    assert not (tmp_path / "written").exists()
