# SPDX-License-Identifier: Apache-2.0
"""Checkpoints whose parameters and keys have the names of before load as they did."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavlm_lightning import WavLM, WavLMConfig, load_wavlm
from wavlm_lightning.model.earlier_names import current_parameters

PARAMETERS = {"feature_encoder.": "frontend.", "mask_embedding": "mask_vector"}
KEYS = {
    "feature_encoder_dim": "frontend_dim",
    "feature_encoder_norm": "frontend_norm",
    "feature_encoder_grad_scale": "frontend_grad_scale",
}


def earlier(state: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    found = {}
    for name, tensor in state.items():
        for new, old in PARAMETERS.items():
            if name.startswith(prefix + new):
                name = prefix + old + name.removeprefix(prefix + new)
        found[name] = tensor
    assert sum("frontend" in name for name in found) == 9
    assert prefix + "mask_vector" in found
    return found


class Whole(nn.Module):
    """A training module: a WavLM below a prefix, and another parameter of an earlier name."""

    def __init__(self, model: WavLM):
        super().__init__()
        self.model, self.mask_vector = model, nn.Parameter(torch.ones(2))


def test_a_model_loads_a_state_dict_of_before(model: WavLM, tiny: Any, build: Any) -> None:
    other = build(tiny("base"), seed=5)
    other.load_state_dict(earlier(build(tiny("base"), seed=6).state_dict()))
    wanted = build(tiny("base"), seed=6).state_dict()
    torch.testing.assert_close(dict(other.state_dict()), dict(wanted), rtol=0, atol=0)


def test_names_outside_the_encoder_stay(tiny: Any, build: Any) -> None:
    first, second = (Whole(build(tiny("base"), seed=seed)) for seed in (1, 2))
    first.mask_vector.data.fill_(7.0)
    state = earlier(first.state_dict(), "model.")
    second.load_state_dict(state)
    torch.testing.assert_close(dict(second.state_dict()), dict(first.state_dict()), rtol=0, atol=0)


def test_only_names_that_begin_as_those_of_before_are_changed() -> None:
    names = {"mask_vector": 1, "model.head.frontend.bias": 2, "model.frontend.bias": 3}
    assert current_parameters(names, prefix="model.") == {
        "mask_vector": 1,
        "model.head.frontend.bias": 2,
        "model.feature_encoder.bias": 3,
    }


def test_a_checkpoint_of_before_is_read(tmp_path: Path, tiny: Any, build: Any) -> None:
    model = build(tiny("base"))
    state = earlier({f"model.{n}": t for n, t in model.state_dict().items()}, "model.")
    about = {KEYS.get(key, key): value for key, value in model.config.to_dict().items()}
    assert {"frontend_dim", "frontend_norm", "frontend_grad_scale"} <= about.keys()
    content = {"state_dict": state, "hyper_parameters": {"model": about}}
    torch.save(content, tmp_path / "before.ckpt")
    found = load_wavlm(tmp_path / "before.ckpt")
    assert found.config == model.config
    torch.testing.assert_close(dict(found.state_dict()), dict(model.state_dict()), rtol=0, atol=0)


def test_a_wrong_shape_is_named_whatever_the_name_was(
    tmp_path: Path, tiny: Any, build: Any
) -> None:
    model = build(tiny("base"))
    state = earlier({f"model.{n}": t for n, t in model.state_dict().items()}, "model.")
    state["model.mask_vector"] = torch.ones(3)
    content = {"state_dict": state, "hyper_parameters": {"model": model.config.to_dict()}}
    torch.save(content, tmp_path / "before.ckpt")
    with pytest.raises(ValueError, match=r"mask_embedding must have shape .*\(got \(3,\)\)"):
        load_wavlm(tmp_path / "before.ckpt")


def test_keys_that_were_never_ours_are_refused() -> None:
    values = WavLMConfig.preset("mini").to_dict() | {"frontends": 3}
    with pytest.raises(ValueError, match=r"unknown keys \['frontends'\]"):
        WavLMConfig.from_dict(values)
