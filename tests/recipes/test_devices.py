# SPDX-License-Identifier: Apache-2.0
"""What a run sets on a GPU, seen from a machine that may have none."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.features.upstream import load_upstream
from wavlm_lightning.recipes.run.devices import device_words, say_if_busy, set_tf32
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.run.sections import TrainerSection
from wavlm_lightning.recipes.run.trainer import device_flags
from wavlm_lightning.recipes.superb.feature_source import feature_source
from wavlm_lightning.recipes.superb.settings import read_probe_settings
from wavlm_lightning.recipes.superb.sources import sources_of
from wavlm_lightning.runtime import busy_share

ONE = Processes(rank=0, local=1, world=1)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn


def both() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("allowed", [True, False])
def test_a_gpu_is_told_whether_to_use_tf32(allowed: bool) -> None:
    set_tf32(TrainerSection(accelerator="gpu", tf32=not allowed))
    set_tf32(TrainerSection(accelerator="gpu", tf32=allowed))
    assert both() == ("high" if allowed else "highest", allowed)


@pytest.mark.parametrize("flags", [{"accelerator": "gpu"}, {"accelerator": "cpu", "tf32": True}])
def test_torchs_own_choice_stays_on_a_cpu_and_where_nothing_is_said(flags: dict[str, Any]) -> None:
    before = both()
    set_tf32(TrainerSection(**flags))
    assert both() == before


def test_lightning_is_not_given_the_flag() -> None:
    assert "tf32" not in device_flags(TrainerSection(accelerator="cpu", tf32=True), ONE)


@pytest.mark.parametrize(
    "program", ["wavlm_lightning.recipes.pretrain", "wavlm_lightning.recipes.superb"]
)
def test_a_program_sets_it_before_it_computes(
    program: str, monkeypatch: pytest.MonkeyPatch, words: list[str], probe_words: list[str]
) -> None:
    """Asked where further processes are started, which comes before all work."""
    module = importlib.import_module(f"{program}.__main__")
    found = []
    monkeypatch.setattr("wavlm_lightning.recipes.run.program.wanted_devices", lambda *_: 1)
    monkeypatch.setattr(
        "wavlm_lightning.recipes.run.program.start_all", lambda *_, **__: found.append(both()) or 0
    )
    argv = words if program == "wavlm_lightning.recipes.pretrain" else ["ks", "fbank", *probe_words]
    assert module.main([*argv, "--trainer.accelerator=gpu", "--trainer.tf32=true"]) == 0
    assert found == [("high", True)]


@pytest.mark.parametrize(
    ("device", "allowed", "words"),
    [
        ("cpu", True, "cpu, 32-true"),
        ("cuda", True, "cuda, 32-true, TF32"),
        ("cuda", False, "cuda, 32-true"),
    ],
)
def test_the_first_line_says_what_is_computed_in(device: str, allowed: bool, words: str) -> None:
    set_tf32(TrainerSection(accelerator="gpu", tf32=allowed))
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
    monkeypatch.setattr("wavlm_lightning.recipes.run.devices.busy_share", lambda _: share)
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


@pytest.mark.parametrize(
    ("flags", "differ"),
    [
        (["--trainer.tf32=true"], True),
        (["--trainer.tf32=false"], True),
        (["--trainer.tf32=true", "--trainer.accelerator=cpu"], False),
    ],
)
def test_features_in_tf32_are_kept_apart(
    flags: list[str], differ: bool, probe_words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_as = []
    monkeypatch.setattr(
        "wavlm_lightning.recipes.superb.feature_source.open_cache",
        lambda _, about, **__: kept_as.append(about),
    )
    for words in ([], flags):
        accelerator = [f for f in flags if "accelerator" in f] or ["--trainer.accelerator=gpu"]
        settings = read_probe_settings("ks", "fbank", [*probe_words, *accelerator, *words])
        upstream, settings.values["upstream"]["sha256"] = load_upstream(settings.upstream)
        task = load_task("ks")
        where = sources_of(
            settings.kind, settings.paths, settings.data, corpus=task.corpus, processes=ONE
        )
        data = TaskData(
            task(settings.task, where, framing=upstream), settings.data, total_updates=1, seed=0
        )
        feature_source(settings, upstream, data)
    assert len(kept_as) == 4  # means and layers, neither of which fit what is no cache
    assert (kept_as[:2] != kept_as[2:]) is differ


def test_torch_is_silent_about_triton() -> None:
    code = "import sys; sys.modules['triton'] = None; {}; import torch.utils.flop_counter"
    said = [
        subprocess.run(
            [sys.executable, "-c", code.format(first)], check=True, capture_output=True, text=True
        ).stderr
        for first in ("pass", "import recipes")
    ]
    assert "triton" in said[0]
    assert said[1] == ""
