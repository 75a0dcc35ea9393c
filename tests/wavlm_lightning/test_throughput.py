# SPDX-License-Identifier: Apache-2.0
"""Threads come back as they were; the matrix rate is measured once."""

import pytest
import torch

from wavlm_lightning import throughput
from wavlm_lightning.throughput import matrix_rate, threads


def test_threads_are_set_within_the_block_alone() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(KeyError), threads(before + 1):
        raise KeyError
    assert torch.get_num_threads() == before
    with threads(0):
        assert torch.get_num_threads() == before


def test_rate_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "ROWS", {"cpu": 8})
    throughput._measured.cache_clear()
    calls = []
    monkeypatch.setattr(throughput, "_seconds", lambda *_: calls.append(1) or 0.5)
    assert matrix_rate("cpu", torch.float32) == 2 * 8 * 1024 * 4096 / 0.5
    assert matrix_rate("cpu", torch.float32) == 2 * 8 * 1024 * 4096 / 0.5
    assert len(calls) == throughput.TURNS + 1
    throughput._measured.cache_clear()
