# SPDX-License-Identifier: Apache-2.0
"""What README and the site show is run: Python as it stands, commands up to their configuration."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from wavlm_lightning import WavLM, WavLMConfig, load_wavlm
from wavlm_lightning.downstream import load_task
from wavlm_lightning.model.checkpoint import save_released
from wavlm_lightning.recipes.cli import PROGRAMS, arguments
from wavlm_lightning.recipes.cli import main as wavlm
from wavlm_lightning.recipes.mini import superb_corpus
from wavlm_lightning.recipes.run.explain import PRINT
from wavlm_lightning.recipes.superb import api
from wavlm_lightning.recipes.superb.__main__ import main as superb

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "quick_tour.ipynb"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [page.name for page in PAGES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`((?:make|wavlm) [^`]+)`")
# test_wheel.py, test_benchmarks.py, test_sweeps.py
RUN_ELSEWHERE = ("pip install ", "python -m benchmarks.", "wandb ")
SHOWN = ("pretrain", "superb", "finetune", "config")  # programs that can show a configuration
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language, in their order."""
    return [text for name, text in FENCE.findall(page.read_text("utf-8")) if name == language]


def commands(page: Path) -> Iterator[list[str]]:
    """Words of every command, of blocks and within text, without comments."""
    lines = [line for block in blocks(page, "") for line in block.splitlines()]
    outside = FENCE.sub("", page.read_text("utf-8"))
    lines += [line for line in INLINE.findall(outside) if "..." not in line and "|" not in line]
    for line in lines:
        words = [w for w in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=\d+$", w)]
        if words and not line.startswith(RUN_ELSEWHERE):
            yield [*words]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that examples name."""
    root = tmp_path_factory.mktemp("place")
    torch.manual_seed(0)
    model = WavLM(WavLMConfig.mini())
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    content = {"state_dict": state, "hyper_parameters": {"model": model.config.to_dict()}}
    for name in ("runs/pretrain/mini/latest/checkpoints/last.ckpt", "CKPT"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, root / name)
    (root / "runs/pretrain/mini/latest/result.json").write_text("{}")
    save_released(model, root / "WavLM-Base.pt")
    model.save_pretrained(root / "models" / "wavlm-base")
    (root / "small").mkdir()
    (root / "small" / "wavlm.onnx").write_bytes(b"")  # told by its name until it is used
    for name, text in zip(
        ("my_corpus.py", "my_upstream.py", "my_objective.py"),
        [b for b in blocks(ROOT / "docs" / "extend.md", "python") if "TrainedTask" not in b][-3:],
        strict=True,
    ):
        (root / name).write_text(text)
    for name, seconds in (("speech.wav", 2), ("other.flac", 3)):
        noise = 0.1 * torch.randn(8_000 * seconds, generator=torch.Generator().manual_seed(seconds))
        soundfile.write(root / name, noise.numpy(), 8_000)
    return root


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_one(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    found = list(commands(PAGES[NAMES.index(name)]))
    for first, program, *words in found:
        said = shlex.join([first, program, *words])
        assert first in ("make", "wavlm"), said
        if program not in PROGRAMS:
            assert first == "make", said
            assert program in TARGETS, said
            continue
        if words[:1] == ["finetune"]:  # make config finetune
            program, words = "finetune", words[1:]
        arguments(program, words)
        # An accent is the task that a reader of extend.md adds.
        if program not in SHOWN or "TASK=accent" in words:
            continue
        if program == "superb":
            words = [word.replace("TASK=all", "TASK=ks") for word in words]
            words += [] if words and re.match(r"TASK=|[a-z]+$", words[0]) else ["TASK=ks"]
        status = wavlm([program, *words, *([] if program == "config" else [PRINT])])
        assert status == 0, said + capsys.readouterr().err
    assert found or name in ("api.md", "predict.md", "python.md")


@pytest.fixture
def with_few_updates(
    probe_words: list[str], mini_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate` takes seconds."""
    whole = api.evaluate
    few = dict(word.removeprefix("--").split("=", 1) for word in probe_words)

    def short(task: str, upstream: str, **given: Any) -> dict[str, Any]:
        corpus = superb_corpus(load_task(task).corpus, mini_cache, tiny=True)
        said = {**few, **(given.get("overrides") or {})}
        return whole(task, upstream, corpus=corpus, overrides=said)

    monkeypatch.setattr(api, "evaluate", short)


def run(blocks: list[str]) -> dict[str, Any]:
    """Blocks one after the other, as a reader types them; what they define."""
    found: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(block, found)
    return found


def test_the_readme_gives_features(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    found = run(blocks(ROOT / "README.md", "python"))
    assert [layer.shape for layer in found["features"].layers] == [(1, 99, 192)] * 5


@pytest.mark.usefixtures("with_few_updates")
def test_the_page_on_python_does_what_it_says(
    place: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / "recordings").symlink_to(recordings / "speech")
    examples = blocks(ROOT / "docs" / "python.md", "python")
    found = run(examples[:1])
    layers = found["features"].layers
    assert [layer.shape for layer in layers] == [(1, 99, 192)] * 5
    again = load_wavlm(place / "my-wavlm").extract(found["waveform"])
    torch.testing.assert_close(again.layers, layers)
    few = '"optim.total_updates": 4, "optim.warmup_updates": 1, "run.validate_updates": 2,'
    assert sum('"optim.total_updates": 1000,' in example for example in examples) == 1
    found = run([e.replace('"optim.total_updates": 1000,', few) for e in examples])
    assert found["maps"].weights[0].shape == (1, 3, 99, 99)
    assert found["features"].lengths.tolist() == [99, 149]
    assert found["result"]["config"]["seed"] == 1
    assert "test/accuracy" in found["result"]["metrics"]
    assert found["trainer"].global_step == 4
    assert found["module"].audio_seconds > 0


def test_the_page_on_predictions_does_what_it_says(
    place: Path, probe_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert superb(["ks", "fbank", *probe_words]) == 0
    (trained,) = tmp_path.glob("runs/fbank/ks/latest/checkpoints/best.ckpt")
    there = place / "runs/superb/wavlm_mini/ks/latest/checkpoints/best.ckpt"
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_bytes(trained.read_bytes())
    monkeypatch.chdir(place)
    found = run(blocks(ROOT / "docs" / "predict.md", "python"))
    assert found["heard"]["label"] in found["heard"]["probabilities"]


def test_the_objective_adds_to_the_loss(
    words: list[str], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wavlm_lightning import pretraining

    example = next(b for b in blocks(ROOT / "docs" / "extend.md", "python") if "Spread" in b)
    spread = run([example])["Spread"]
    said = dict(word.removeprefix("--").split("=", 1) for word in words[1:])
    said |= {"labels.features": "mfcc", "iterations": "[]"}
    config, folder = words[0].removeprefix("--config="), tmp_path / "parts"
    plain = pretraining(config, folder=folder, overrides=said).module
    parts = pretraining(config, folder=folder, overrides=said, module_class=spread)
    assert isinstance(parts.module, spread)
    parts.data.trainer = type("T", (), {"global_rank": 0, "world_size": 1, "overfit_batches": 0})()
    batch = next(iter(parts.data.train_dataloader()))
    for module in (plain, parts.module):
        module.eval()
        module.trainer = None
    features = plain.model.encode(batch.waveforms, batch.lengths, masked=batch.masked)
    frames = len(batch.masked_places)
    less = plain.added_loss(features, batch, frames=frames)
    variance = features.output.float().var(dim=1).mean()
    wanted = less + 0.1 * frames / (1 + variance)
    torch.testing.assert_close(parts.module.added_loss(features, batch, frames=frames), wanted)


def test_the_layout_and_the_upstream_are_used(
    place: Path, probe_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(place))
    corpus = tmp_path / "calls"
    for split in ("train", "dev", "test"):
        for speaker in ("ann", "bob"):
            for number, word in enumerate(("yes", "no")):
                path = corpus / split / speaker / f"{word}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                generator = torch.Generator().manual_seed(number)
                soundfile.write(path, 0.1 * torch.randn(9_000, generator=generator).numpy(), 16_000)
    argv = ["ks", "my_upstream:Energies", *probe_words, f"--data.manifest={corpus}"]
    assert superb([*argv, "--data.layout=my_corpus:Calls"]) == 0
    (result,) = tmp_path.glob("results/my_upstream.Energies/ks*.json")
    assert json.loads(result.read_text())["counts"]["train_utterances"] == 4


@pytest.mark.usefixtures("with_few_updates")
def test_the_notebook_runs(place: Path, mini_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    monkeypatch.chdir(place)
    words = superb_corpus("speech_commands", mini_cache, tiny=True)
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    word = next(words.rglob("left/*.wav"), next(words.rglob("*.wav"))).parent.name
    made = 'superb_corpus("speech_commands", Path(".cache/mini"))'
    assert sum(made in cell for cell in code) == 1
    code = [
        cell.replace(made, f"Path({str(words)!r})").replace("left/*", f"{word}/*") for cell in code
    ]
    found = run(code)
    assert len(found["weights"]) == 3
    assert all(len(row) == 5 for row in found["weights"])
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    assert "accuracy" in printed
    assert not [output for output in outputs if output["output_type"] == "error"]
