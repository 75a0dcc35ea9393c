# SPDX-License-Identifier: Apache-2.0
"""Predictions of a checkpoint are those of its evaluation, for every head; files are as said."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavlm_lightning.audio import AudioError, read_audio, write_audio
from wavlm_lightning.checkpoint_file import read_checkpoint, write_checkpoint
from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.downstream.corpora.librimix import read_rttm
from wavlm_lightning.downstream.features.frames import ConvolutionFraming
from wavlm_lightning.downstream.features.windows import WindowConfig
from wavlm_lightning.downstream.predictor import Predictor
from wavlm_lightning.downstream.task import Sources
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.names import safe_field
from wavlm_lightning.recipes.predict import main as predict
from wavlm_lightning.recipes.superb.__main__ import main as superb
from wavlm_lightning.recipes.superb.settings import read_probe_settings

TRAINED = [name for name in task_names() if issubclass(load_task(name), TrainedTask)]
FAST = ("ks", "asr", "sd")
FEW_SPEAKERS = ["--task.held_out_speakers=3", "--task.best_of=1"]


@pytest.fixture
def trained(probe_words: list[str], tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Path]]]:
    """Trains a head of a task; its checkpoint, and the files of the test set by their ids."""

    def train(name: str, upstream: str = "fbank", *more: str) -> tuple[Path, dict[str, Path]]:
        words = [*probe_words, *(FEW_SPEAKERS if name == "asv" else []), *more]
        assert superb([name, upstream, *words]) == 0
        kind = load_task(name)
        settings = read_probe_settings(name, upstream, words)
        paths = {f.partition("=")[0][8:]: f.partition("=")[2] for f in words if "--paths." in f}
        sources = Sources("mini", paths, cache=tmp_path)
        variant = (kind.variants(sources) or [None])[0]
        task = kind(settings.task, sources, framing=ConvolutionFraming(), variant=variant)
        files = {e.id: Path(e.path) for e in task.examples("test")}
        run = tmp_path / "runs" / upstream / name / "latest" / (variant or "")
        checkpoint = run / "checkpoints" / "best.ckpt"
        assert checkpoint.is_file()
        return checkpoint, files

    return train


def rows_of(checkpoint: Path, name: str) -> Path:
    return checkpoint.parents[1] / "predictions" / name


def check(name: str, checkpoint: Path, files: dict[str, Path], heard: list[dict[str, Any]]) -> None:
    """What was heard against the predictions that the run has left."""
    by_id = dict(zip(files, heard, strict=True))
    if name in ("er", "ks", "sid"):
        lines = rows_of(checkpoint, "test.tsv").read_text().splitlines()[1:]
        assert {line.split("\t")[0]: line.split("\t")[2] for line in lines} == {
            key: one["label"] for key, one in by_id.items()
        }
    elif name == "ic":
        lines = rows_of(checkpoint, "test.tsv").read_text().splitlines()[1:]
        said = {
            key: " ".join(f"{s}={v['label']}" for s, v in one["slots"].items())
            for key, one in by_id.items()
        }
        assert {line.split("\t")[0]: line.split("\t")[2] for line in lines} == said
    elif name in ("asr", "pr", "sf"):
        text = rows_of(checkpoint, "test.hypothesis.trn").read_text()
        assert text == "".join(f"{one['text']} ({safe_field(k)})\n" for k, one in by_id.items())
    elif name == "sd":
        wanted = read_rttm(rows_of(checkpoint, "test.hypothesis.rttm"))
        for key, one in by_id.items():
            turns = [[t.speaker, t.start, t.stop] for t in wanted.get(key, [])]
            assert one["turns"] == [[who, *map(pytest.approx, span)] for who, *span in turns]
    elif name == "asv":
        for line in rows_of(checkpoint, "test.scores.txt").read_text().splitlines():
            _, first, second, score = line.split(" ")
            a, b = (np.array(by_id[key]["embedding"]) for key in (first, second))
            assert float(a @ b) == pytest.approx(float(score), abs=2e-5)
    elif name == "ss":
        kept = sorted(checkpoint.parents[1].glob("predictions/test.*.speaker1.wav"))
        assert kept
        for path in kept:
            key = path.name.removeprefix("test.").removesuffix(".speaker1.wav")
            ours = torch.stack(list(by_id[key]["audio"].values()))
            theirs = torch.stack(
                [read_audio(path.with_name(f"test.{key}.speaker{i}.wav")) for i in (1, 2)]
            )
            assert min(float((ours[o] - theirs).abs().max()) for o in ([0, 1], [1, 0])) < 1e-3


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in TRAINED]
)
def test_a_checkpoint_predicts_what_its_evaluation_did(
    name: str, trained: Callable[..., tuple[Path, dict[str, Path]]]
) -> None:
    checkpoint, files = trained(name)
    predictor = Predictor(checkpoint, device="cpu")
    heard = predictor(list(files.values()))
    check(name, checkpoint, files, heard)
    json.dumps([{k: v for k, v in one.items() if k != "audio"} for one in heard], allow_nan=False)
    waveform = read_audio(next(iter(files.values())))
    (again,) = predictor([waveform])
    assert again.keys() == heard[0].keys()


def test_probabilities_are_of_the_likeliest_first_and_add_up(
    trained: Callable[..., tuple[Path, dict[str, Path]]],
) -> None:
    checkpoint, files = trained("er")
    (found,) = Predictor(checkpoint, device="cpu")([next(iter(files.values()))])
    values = list(found["probabilities"].values())
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1.0, abs=1e-3)
    assert next(iter(found["probabilities"])) == found["label"]


def test_an_upstream_that_changed_is_refused(
    trained: Callable[..., tuple[Path, dict[str, Path]]],
) -> None:
    checkpoint, _ = trained("ks")
    content = read_checkpoint(checkpoint)
    content["predictor"]["upstream"]["sha256"] = "ab" * 32
    content["predictor"]["upstream"]["source"] = "somewhere"
    write_checkpoint(checkpoint, content)
    with pytest.raises(ValueError, match=r"somewhere is not the upstream that .*best\.ckpt was t"):
        Predictor(checkpoint)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.ckpt", {"state_dict": {}})
    with pytest.raises(ValueError, match=r"a\.ckpt must be a checkpoint that make superb or make"):
        Predictor(tmp_path / "a.ckpt")


def test_similarity_needs_embeddings(
    trained: Callable[..., tuple[Path, dict[str, Path]]],
) -> None:
    checkpoint, files = trained("ks")
    path = next(iter(files.values()))
    with pytest.raises(ValueError, match=r"needs a head of verification \(got one of ks\)"):
        Predictor(checkpoint, device="cpu").similarity(path, path)


def test_a_folder_is_predicted_once_and_what_cannot_be_is_listed(
    trained: Callable[..., tuple[Path, dict[str, Path]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint, files = trained("ks")
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    for number, path in enumerate(list(files.values())[:3]):
        write_audio(source / ("deep" if number else ".") / f"{number}.wav", read_audio(path))
    (source / "broken.wav").write_bytes(b"no audio")
    write_audio(source / "short.wav", 0.1 * torch.ones(399))
    words = [f"--ckpt={checkpoint}", f"--input={source}", f"--out={out}", "--device=cpu"]
    capsys.readouterr()
    assert predict(words) == 0
    said = capsys.readouterr().out
    assert "5 recordings, 0 of them done before" in said
    assert "left out, unusable: 2 files" in said
    assert "predictions of ks for 3 recordings" in said
    found = {p.name: json.loads(p.read_text()) for p in out.glob("*.json") if p.stem != "model"}
    assert set(found) == {"0.wav.json", "deep%2F1.wav.json", "deep%2F2.wav.json"}
    assert found["deep%2F1.wav.json"]["recording"] == "deep/1.wav"
    wanted = Predictor(checkpoint, device="cpu")([source / "0.wav"])[0]
    assert found["0.wav.json"] == {"recording": "0.wav", **wanted}
    assert len((out / "unusable.tsv").read_text().splitlines()) == 2
    (out / "0.wav.json").unlink()
    assert predict(words) == 0
    assert "5 recordings, 2 of them done before" in capsys.readouterr().out
    assert (out / "0.wav.json").is_file()
    for name in ("broken.wav", "short.wav"):
        (source / name).unlink()
    (out / "0.wav.json").unlink()
    assert predict(words) == 0
    assert not (out / "unusable.tsv").exists()


def test_recordings_that_differ_in_their_ending_are_two(
    trained: Callable[..., tuple[Path, dict[str, Path]]], tmp_path: Path
) -> None:
    checkpoint, files = trained("ks")
    (tmp_path / "in").mkdir()
    for name, path in zip(("model.wav", "model.flac"), files.values(), strict=False):
        write_audio(tmp_path / "in" / name, read_audio(path))
    out = tmp_path / "out"
    words = [f"--ckpt={checkpoint}", f"--input={tmp_path / 'in'}", f"--out={out}"]
    assert predict([*words, "--device=cpu"]) == 0
    names = {json.loads(p.read_text()).get("recording") for p in out.glob("*.json")}
    assert names == {None, "model.wav", "model.flac"}  # None: what says whose they are


def test_a_checkpoint_that_cannot_predict_leaves_the_folder_to_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_audio(tmp_path / "a.wav", 0.1 * torch.randn(8_000))
    write_checkpoint(tmp_path / "a.ckpt", {"state_dict": {}})
    words = [f"--ckpt={tmp_path / 'a.ckpt'}", f"--input={tmp_path / 'a.wav'}"]
    assert predict([*words, f"--out={tmp_path / 'out'}"]) == 1
    assert "must be a checkpoint that make superb" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_too_short_without_its_silence_is_left_out(
    trained: Callable[..., tuple[Path, dict[str, Path]]], tmp_path: Path
) -> None:
    checkpoint, files = trained("asv", "fbank", "--task.remove_silence=true")
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    click = torch.zeros(16_000)
    click[8_000:8_100] = 0.5
    write_audio(source / "click.wav", click)
    write_audio(source / "speech.wav", read_audio(next(iter(files.values()))))
    predictor = Predictor(checkpoint, device="cpu")
    with pytest.raises(AudioError, match=r"click\.wav: \d+ samples, at least 400 are needed"):
        predictor([source / "click.wav"])
    with pytest.raises(AudioError, match=r"a recording: 10 samples"):
        predictor([torch.ones(10)])
    words = [f"--ckpt={checkpoint}", f"--input={source}", f"--out={out}", "--device=cpu"]
    assert predict(words) == 0
    assert (out / "speech.wav.json").is_file()
    assert (out / "unusable.tsv").read_text().startswith("click.wav\t")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--input=/nowhere", "input=/nowhere: there is no such file or folder"),
        ("--ckpt=/nowhere", "ckpt=/nowhere: there is no such file"),
        ("--input={empty}", "there are no recordings in it"),
        ("--out={other}", "holds files with sha256=00 (this run has "),
        ("--out={in}/heard", "must not lie in input="),
        ("--batch_seconds=0", "batch_seconds must be above 0"),
    ],
)
def test_what_is_wrong_is_one_line(
    change: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty", "other", "in"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "model.json").write_text('{"sha256": "00"}')
    write_audio(tmp_path / "in" / "a.wav", 0.1 * torch.ones(8_000))
    write_checkpoint(tmp_path / "a.ckpt", {"state_dict": {}})
    words = {"ckpt": tmp_path / "a.ckpt", "input": tmp_path / "in", "out": tmp_path / "new"}
    argv = [f"--{key}={value}" for key, value in words.items()]
    argv.append(re.sub(r"\{(\w+)\}", lambda m: str(tmp_path / m[1]), change))
    assert predict(argv) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_separated_speakers_and_turns_are_files(
    trained: Callable[..., tuple[Path, dict[str, Path]]], tmp_path: Path
) -> None:
    checkpoint, files = trained("sd")
    path = next(iter(files.values()))
    out = tmp_path / "out"
    assert predict([f"--ckpt={checkpoint}", f"--input={path}", f"--out={out}", "--device=cpu"]) == 0
    found = json.loads((out / f"{path.name}.json").read_text())
    assert found["files"] == {"rttm": f"{path.name}.rttm"}
    assert found["turns"]
    turns = read_rttm(out / f"{path.name}.rttm")[path.stem]
    assert [[t.speaker, t.start, t.stop] for t in turns] == [
        [who, *map(pytest.approx, span)] for who, *span in found["turns"]
    ]


@pytest.mark.slow
def test_separated_speakers_are_written_as_audio(
    trained: Callable[..., tuple[Path, dict[str, Path]]], tmp_path: Path
) -> None:
    checkpoint, files = trained("ss")
    path = next(iter(files.values()))
    out = tmp_path / "out"
    assert predict([f"--ckpt={checkpoint}", f"--input={path}", f"--out={out}", "--device=cpu"]) == 0
    found = json.loads((out / f"{path.name}.json").read_text())
    wanted = Predictor(checkpoint, device="cpu")([path])[0]["audio"]
    assert found["files"].keys() == wanted.keys() == {"speaker1", "speaker2"}
    for part, waveform in wanted.items():
        assert float(waveform.abs().max()) > 1e-3
        written = read_audio(out / found["files"][part])
        torch.testing.assert_close(written, waveform, rtol=0, atol=1e-4)


def test_a_long_recording_is_heard_in_windows(
    trained: Callable[..., tuple[Path, dict[str, Path]]], tmp_path: Path
) -> None:
    checkpoint, files = trained("ks", "fbank_no_cmvn")
    whole = Predictor(checkpoint, device="cpu")
    cut = Predictor(checkpoint, device="cpu", windows=WindowConfig(window_seconds=1))
    sounds = [read_audio(path) for path in list(files.values())[:4]]
    long, short = torch.cat(sounds), sounds[0][:15_000]
    (wanted, same), (heard, other) = whole([long, short]), cut([long, short])
    assert heard.pop("window_seconds") == 1
    assert "window_seconds" not in wanted
    assert heard["label"] == wanted["label"]
    for name, value in wanted["probabilities"].items():
        assert heard["probabilities"][name] == pytest.approx(value, abs=1e-3)
    assert other == same  # what fits a window is computed as before


@pytest.mark.slow
def test_two_processes_write_what_one_does(
    trained: Callable[..., tuple[Path, dict[str, Path]]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    checkpoint, files = trained("ks")
    source = tmp_path / "in"
    source.mkdir()
    for number, path in enumerate(list(files.values())[:5]):
        write_audio(source / f"{number}.wav", read_audio(path))
    (source / "broken.wav").write_bytes(b"rubbish")
    words = [f"--ckpt={checkpoint}", f"--input={source}", "--device=cpu"]
    assert predict([*words, f"--out={tmp_path / 'one'}"]) == 0
    capfd.readouterr()
    assert predict([*words, f"--out={tmp_path / 'two'}", "--processes=2"]) == 0
    said = capfd.readouterr()
    assert said.out.count("6 recordings, 0 of them done before") == 1
    assert said.out.count("predictions of ks for 5 recordings") == 1
    for path in sorted((tmp_path / "one").iterdir()):
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes(), path.name
    assert predict([*words, f"--out={tmp_path / 'two'}", "--processes=2", "--input=/no"]) == 1
    assert capfd.readouterr().err.count("error: ") == 1
