# SPDX-License-Identifier: Apache-2.0
"""A program says its first line, or what is wrong, before it imports what takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SLOW = ("lightning", "torchmetrics", "torch._dynamo", "transformers", "scipy.signal", "matplotlib")
# The program up to its first line; what it said, and which slow packages it had imported by then.
CHILD = f"""
import builtins, json, os, sys
from importlib import import_module
from importlib.util import find_spec

def first_line(*said, **_):
    found = [name for name in {SLOW} if name in sys.modules]
    os.write(1, json.dumps([" ".join(map(str, said)), found]).encode())
    os._exit(0)

name = sys.argv[1]
is_room = find_spec(name).submodule_search_locations is not None
program = import_module(name + ".__main__" if is_room else name)
builtins.print = first_line
program.main(sys.argv[2:])
"""


def first_line(program: str, *argv: str) -> tuple[str, list[str]]:
    command = [sys.executable, "-c", CHILD, program, *argv]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said, found = json.loads(done.stdout)
    return said, found


def test_pretraining_opens_its_run_before_lightning_is_imported(words: list[str]) -> None:
    said, slow = first_line("wavlm_lightning.recipes.pretrain", *words)
    assert said.startswith("new run ")
    assert slow == []


def test_a_task_opens_its_run_before_lightning_is_imported(probe_words: list[str]) -> None:
    said, slow = first_line("wavlm_lightning.recipes.superb", "ks", "fbank", *probe_words)
    assert said.startswith("new run ")
    assert slow == []


@pytest.mark.parametrize(
    ("program", "argv", "wanted"),
    [
        ("wavlm_lightning.recipes.superb", ["nothing", "fbank"], "error: "),
        ("wavlm_lightning.recipes.pretrain", ["--data.root=/nothing"], "error: "),
        ("wavlm_lightning.recipes.finetune", ["nothing"], "error: "),
        ("wavlm_lightning.recipes.config", ["--config=configs/pretrain/mini.yaml"], "model.size"),
        (
            "wavlm_lightning.recipes.pretrain.manifest",
            ["--root=/nothing", "--out=/nothing"],
            "error: ",
        ),
        ("wavlm_lightning.recipes.pretrain.labels", ["--root=/nothing"], "error: "),
        ("wavlm_lightning.recipes.export", ["--ckpt=/nothing"], "error: "),
    ],
)
def test_other_programs_do_too(program: str, argv: list[str], wanted: str) -> None:
    said, slow = first_line(program, *argv)
    assert wanted in said
    assert slow == []
