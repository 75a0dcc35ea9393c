# SPDX-License-Identifier: Apache-2.0
"""What a run sets on a GPU, seen from a machine that may have none."""

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from recipes.devices import allow_tf32, device_words, say_if_busy
from recipes.processes import Processes
from recipes.trainer import device_flags
from wavlm_lightning.processors import busy_share

ONE = Processes(rank=0, local=1, world=1)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn


@pytest.mark.parametrize(("flags", "allowed"), [({}, True), ({"tf32": False}, False)])
def test_a_gpu_is_told_whether_to_use_tf32(flags: dict[str, bool], allowed: bool) -> None:
    allow_tf32(not allowed)
    assert "tf32" not in device_flags({"accelerator": "gpu", **flags}, ONE)
    assert torch.get_float32_matmul_precision() == ("high" if allowed else "highest")
    assert torch.backends.cudnn.allow_tf32 is allowed


def test_a_cpu_multiplies_in_float32() -> None:
    allow_tf32(False)
    assert "tf32" not in device_flags({"accelerator": "cpu", "tf32": True}, ONE)
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("device", "allowed", "words"),
    [
        ("cpu", True, "cpu, 32-true"),
        ("cuda", True, "cuda, 32-true, TF32"),
        ("cuda", False, "cuda, 32-true"),
    ],
)
def test_the_first_line_says_what_is_computed_in(device: str, allowed: bool, words: str) -> None:
    allow_tf32(allowed)
    trainer = SimpleNamespace(
        precision="32-true", strategy=SimpleNamespace(root_device=torch.device(device))
    )
    assert device_words(trainer) == words


@pytest.mark.parametrize(
    ("share", "threads", "device", "said"),
    [
        (0.9, 2, "cpu", True),
        (0.6, 2, "cpu", False),
        (0.9, 1, "cpu", False),
        (0.9, 2, "cuda", False),
    ],
)
def test_a_busy_machine_is_said_once(
    share: float,
    threads: int,
    device: str,
    said: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("recipes.devices.busy_share", lambda _: share)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    say_if_busy.cache_clear()
    say_if_busy(device)
    say_if_busy(device)
    printed = capsys.readouterr().out
    assert printed.count("OMP_NUM_THREADS=1") == int(said)
    assert ("90%" in printed) is said


def test_work_of_others_is_seen_while_this_process_sleeps() -> None:
    code = "import time\nprint(flush=True)\nwhile time.process_time() < 60: pass"
    others = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()  # it has begun
        assert busy_share(0.5) > 0.5
    finally:
        for other in others:
            other.kill()
            other.communicate()
