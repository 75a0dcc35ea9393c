# SPDX-License-Identifier: Apache-2.0
"""Threads come back as they were."""

import pytest
import torch

from wavlm_lightning.runtime import threads


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
