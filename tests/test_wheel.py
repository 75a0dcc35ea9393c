# SPDX-License-Identifier: Apache-2.0
"""The wheel, built, installed and run where nothing of the checkout is."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from wavlm_lightning.recipes.mini import superb_corpus

ROOT = Path(__file__).parent.parent
FEW = ["optim.total_updates=3", "run.validate_updates=3", "data.num_workers=0", "protocol=mini"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, as an installer does that has no wheel."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(out), "-t"]
    subprocess.run([*build, "sdist"], cwd=ROOT, check=True, capture_output=True)
    (sdist,) = out.glob("*.tar.gz")
    subprocess.run(["tar", "xzf", str(sdist)], cwd=out, check=True)
    tree = out / sdist.name.removesuffix(".tar.gz")
    subprocess.run([*build, "wheel"], cwd=tree, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder bin of an environment with the wheel, and with the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # Further paths of a file .pth are not read for their own .pth, such as that of the checkout.
    packages = Path(pytest.__file__).parent.parent
    (site / "packages.pth").write_text(f"{packages}\n")
    return folder / "bin"


def run(bin_: Path, *words: str, cwd: Path) -> str:
    """What a program of the environment prints, started in a folder of its own."""
    plain = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [str(bin_ / words[0]), *words[1:]]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=plain)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_holds_every_module_and_configuration_below_its_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert top == {"wavlm_lightning", f"wavlm_lightning-{version('wavlm-lightning')}.dist-info"}
    known = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if known.returncode:
        pytest.skip("a tree without git; a clone runs this")
    folders = ("wavlm_lightning", "downstream", "recipes", "configs")
    links = {f"wavlm_lightning/{name}" for name in folders[1:]}
    tracked = {f for f in known.stdout.split() if f.split("/")[0] in folders} - links
    wanted = {f if f.startswith("wavlm_lightning/") else f"wavlm_lightning/{f}" for f in tracked}
    assert len(wanted) > 200
    assert wanted - set(names) == set()


def test_a_first_score_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    corpus = superb_corpus("speech_commands", tmp_path / "corpus", tiny=True)
    folder = tmp_path / "empty"
    folder.mkdir()
    words = ["superb", "ks", "fbank", f"paths.speech_commands={corpus}", *FEW]
    assert "test/accuracy" in run(installed, "wavlm", *words, cwd=folder)
    result = json.loads((folder / "results/fbank/ks.json").read_text())
    assert result["commit"] == f"version {version('wavlm-lightning')}"
    assert (folder / result["checkpoint"]).is_file()


def test_its_configurations_are_found_and_its_hints_need_no_make(
    installed: Path, tmp_path: Path
) -> None:
    shown = run(installed, "wavlm", "config", cwd=tmp_path)
    assert "site-packages/wavlm_lightning/configs/pretrain/mini.yaml" in shown
    assert run(installed, "wavlm", "--version", cwd=tmp_path).strip() == version("wavlm-lightning")


def test_the_library_is_there_and_nothing_else_at_the_top(installed: Path, tmp_path: Path) -> None:
    code = """
import importlib.util, wavlm_lightning
from wavlm_lightning import WavLM, WavLMConfig, Predictor, evaluate, load_wavlm, __version__
from wavlm_lightning.downstream.task import Task
print(WavLM(WavLMConfig.mini()).config.dim, __version__, wavlm_lightning.__file__)
print([importlib.util.find_spec(name) for name in ("downstream", "recipes", "tests")])
"""
    first, second = run(installed, "python", "-c", code, cwd=tmp_path).splitlines()
    dim, number, file = first.split()
    assert (dim, number) == ("192", version("wavlm-lightning"))
    assert Path(file).is_relative_to(installed.parent)
    assert second == "[None, None, None]"
