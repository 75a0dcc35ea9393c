# SPDX-License-Identifier: Apache-2.0
"""The matrix rate is measured once."""

import pytest
import torch

from wavlm_lightning import throughput
from wavlm_lightning.throughput import matrix_rate


def test_rate_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "ROWS", {"cpu": 8})
    throughput._measured.cache_clear()
    calls = []
    monkeypatch.setattr(throughput, "_seconds", lambda *_: calls.append(1) or 0.5)
    assert matrix_rate("cpu", torch.float32) == 2 * 8 * 1024 * 4096 / 0.5
    assert matrix_rate("cpu", torch.float32) == 2 * 8 * 1024 * 4096 / 0.5
    assert len(calls) == throughput.TURNS + 1
    throughput._measured.cache_clear()
