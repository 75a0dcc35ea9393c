# SPDX-License-Identifier: Apache-2.0
"""Linear layers by oneDNN: when they are, and that they give what torch's give."""

import pytest
import torch
from torch import nn

from wavlm_lightning.model.kernels import linear as module
from wavlm_lightning.model.kernels import plain_operations
from wavlm_lightning.model.kernels.linear import linear


@pytest.fixture(autouse=True)
def amd(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any processor."""
    monkeypatch.setattr(module, "onednn_is_faster", lambda: True)


def by_onednn(layer: nn.Module, x: torch.Tensor) -> bool:
    return module.by_onednn(layer, x)  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 16), (2, 5, 16), (1, 0, 16)])
def test_it_gives_what_the_layer_gives(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = nn.Linear(16, 24, bias=bias), torch.randn(shape)
    with torch.no_grad():
        assert by_onednn(layer, x)
        torch.testing.assert_close(linear(layer, x), layer(x), rtol=1e-5, atol=1e-5)


def test_a_view_is_as_good_as_a_copy() -> None:
    layer, x = nn.Linear(16, 24), torch.randn(2, 16, 5).transpose(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(linear(layer, x), layer(x), rtol=1e-5, atol=1e-5)


def test_it_is_left_to_torch_where_gradients_or_other_formats_are_wanted() -> None:
    layer, x = nn.Linear(16, 24), torch.randn(5, 16)
    assert not by_onednn(layer, x)
    with torch.no_grad():
        assert not by_onednn(layer, x.bfloat16())
        assert not by_onednn(nn.Linear(16, 24).bfloat16(), x)
        assert not by_onednn(nn.Bilinear(16, 16, 24), x)
        with torch.autocast("cpu", torch.bfloat16):
            assert not by_onednn(layer, x)
        with plain_operations():
            assert not by_onednn(layer, x)


def test_processors_of_amd_are_known_by_their_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    monkeypatch.undo()
    for name, wanted in (("AuthenticAMD", True), ("GenuineIntel", False)):
        file = tmp_path / name  # type: ignore[operator]
        file.write_text(f"processor : 0\nvendor_id : {name}\n")
        monkeypatch.setattr(module, "PROCESSOR", file)
        module.onednn_is_faster.cache_clear()
        assert module.onednn_is_faster() == wanted
    monkeypatch.undo()
    module.onednn_is_faster.cache_clear()
