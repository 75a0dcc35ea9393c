# SPDX-License-Identifier: Apache-2.0
"""What a run sets on a GPU, seen from a machine that may have none."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from recipes.devices import allow_tf32, device_words
from recipes.processes import Processes
from recipes.trainer import device_flags

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
