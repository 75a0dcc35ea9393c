# SPDX-License-Identifier: Apache-2.0
"""The command `wavlm`: its words, its programs, and what it says of those it does not know."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from wavlm_lightning import recipes
from wavlm_lightning.recipes.cli import PROGRAMS, UsageError, arguments, main

MINI = "--config=configs/pretrain/mini.yaml"
CKPT = "runs/pretrain/mini/latest/checkpoints/last.ckpt"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("superb ks fbank", "ks fbank"),
        ("superb ks", "ks wavlm_mini"),
        ("superb", "all wavlm_mini"),
        ("superb UPSTREAM=fbank ks", "ks fbank"),
        ("superb ks fbank --optim.lr=1e-3 seed=1", "ks fbank --optim.lr=1e-3 --seed=1"),
        ("superb ks LR=sweep", "ks wavlm_mini --heads.lr=sweep"),
        ("superb ks LR=1,2 SEED=0,1", "ks wavlm_mini --heads.lr=[1,2] --heads.seed=[0,1]"),
        ("superb ks LR=1 SEED=3", "ks wavlm_mini --optim.lr=1 --seed=3"),
        ("superb ks fbank more", None),
        ("superb ks COUNT=3", None),
        ("pretrain", MINI),
        ("pretrain CONFIG=a.yaml x.y=[1,2]", "--config=a.yaml --x.y=[1,2]"),
        ("pretrain a.yaml", None),
        ("finetune er CONFIG=", "er wavlm_mini"),
        ("predict CKPT=a IN=b OUT=c", "--ckpt=a --input=b --out=c"),
        ("export OUT=x", f"--ckpt={CKPT} --to=transformers --out=x"),
        ("sweep asv LOCAL=1 seed=2", "asv --local -- --seed=2"),
        ("sweep asv --local UPSTREAM=fbank", "asv --upstream=fbank --local --"),
        ("config", MINI),
        ("config optim.lr=1", f"{MINI} --optim.lr=1"),
        ("config asv", "asv wavlm_mini"),
        ("config finetune TASK=er CONFIG=a", "finetune er wavlm_mini --config=a"),
        ("config finetune er --optim.lr=1", "finetune er wavlm_mini --optim.lr=1"),
        ("config --optim.lr=1 asv fbank", "asv fbank --optim.lr=1"),
        ("fidelity", ""),
        ("fidelity asv", "asv"),
        ("tasks", ""),
        ("tasks asv", None),
    ],
)
def test_words_become_arguments(words: str, wanted: str | None) -> None:
    program, *rest = words.split()
    if wanted is None:
        with pytest.raises(UsageError, match=f"^{program} takes .*got"):
            arguments(program, rest)
    else:
        assert arguments(program, rest) == wanted.split()


def test_a_value_keeps_its_spaces_lines_and_equals_signs() -> None:
    assert arguments("predict", ["IN=a b\nc=d"]) == ["--input=a b\nc=d"]
    assert arguments("pretrain", ["run.name=a b=c"]) == [MINI, "--run.name=a b=c"]


def test_every_program_can_be_imported_and_takes_arguments() -> None:
    for program in PROGRAMS.values():
        main_of = import_module(f"wavlm_lightning.recipes.{program.module}").main
        assert list(main_of.__annotations__) == ["argv", "return"]


def test_every_command_line_of_recipes_is_a_program_or_a_tool_of_make() -> None:
    root = Path(recipes.__path__[0])
    found = {
        ".".join(file.relative_to(root).with_suffix("").parts)
        for file in root.rglob("*.py")
        if any(
            isinstance(node, ast.If) and "__name__ ==" in ast.unparse(node.test)
            for node in ast.parse(file.read_text()).body
        )
    }
    assert found - {p.module for p in PROGRAMS.values()} == {
        "cli",
        "slim",
        "mini.__main__",
        "mini.worker",
    }


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wavlm_lightning.recipes.cli", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["suberp"], "no program suberp: the nearest one is superb"),
        (["qqq"], "no program qqq: there are pretrain, superb"),
        (["superb", "COUNT=3"], "superb takes TASK, UPSTREAM, LR, SEED (got COUNT)"),
        (["superb", "TASK=ks", "TASK=er"], "TASK must be said once (got ks, er)"),
        (["tasks", "ks"], "tasks takes no word without a key (got ks)"),
    ],
)
def test_a_word_that_is_not_there_is_one_line(
    words: list[str], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    got = capsys.readouterr()
    assert got.out == ""
    assert got.err.startswith(f"error: {wanted}")
    assert got.err.count("\n") == 1


def test_without_words_it_lists_its_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[3:]] == list(PROGRAMS)
    assert all(len(line) <= 100 for line in lines)


def test_help_of_a_program_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--help"]) == 0
    assert "optim.lr" in capsys.readouterr().out


def test_it_answers_before_torch_is_imported(tmp_path: Path) -> None:
    code = "import sys; from wavlm_lightning.recipes.cli import main; main([]); "
    code += "print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


def test_configurations_are_found_from_any_folder_and_ones_own_come_first(tmp_path: Path) -> None:
    shown = run("config", "asv", "fbank", cwd=tmp_path).stdout
    rate = next(line for line in shown.splitlines() if line.startswith("optim.lr"))
    assert "wavlm_lightning/configs/superb/asv.yaml" in rate
    own = tmp_path / "configs" / "upstream" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("upstream: {kind: fbank}\n")
    (tmp_path / "configs" / "paths.yaml").write_text("paths: {voxceleb1: /data/vox}\n")
    shown = run("config", "asv", "mine", cwd=tmp_path).stdout
    assert "configs/upstream/mine.yaml" in shown
    assert "/data/vox" in shown
    done = run("config", "asv", "nothing", cwd=tmp_path)
    assert done.returncode == 1
    assert "hubert_base, hubert_large, mine, random" in done.stderr
    assert "wavlm superb" not in done.stderr


def test_hints_name_the_command_that_works_where_one_is(tmp_path: Path) -> None:
    done = run("superb", "ctc", "fbank", cwd=tmp_path)
    assert done.stderr == "error: ctc trains its encoder: wavlm finetune TASK=ctc\n"
    top = Path(__file__).parent.parent.parent
    done = run("superb", "ctc", "fbank", cwd=top)
    assert done.stderr == "error: ctc trains its encoder: make finetune TASK=ctc\n"


def test_the_folder_at_the_top_is_no_package_of_its_own() -> None:
    top = Path(__file__).parent.parent.parent
    command = [sys.executable, "-c", "from downstream.task import Task"]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True)
    assert "import wavlm_lightning.downstream" in done.stderr.splitlines()[-1]
