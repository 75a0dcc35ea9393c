# SPDX-License-Identifier: Apache-2.0
"""Linear heads over frames."""

import pytest
import torch

from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.linear import ProjectedLinear


@pytest.mark.parametrize(("dim", "parameters"), [(768, 215_882), (1024, 281_418), (240, 80_714)])
def test_phone_head_has_the_published_parameter_count(dim: int, parameters: int) -> None:
    with torch.device("meta"):
        head = ProjectedLinear(dim, hidden=256, num_symbols=74)
    assert sum(p.numel() for p in head.parameters()) == parameters


def test_a_frame_is_projected_by_itself() -> None:
    torch.manual_seed(0)
    head = ProjectedLinear(5, hidden=3, num_symbols=4)
    x = torch.randn(2, 6, 5)
    whole = head(Frames(x, torch.tensor([6, 6])))
    one = head(Frames(x[:, 2:3], torch.tensor([1, 1])))
    torch.testing.assert_close(whole[:, 2:3], one)
