# SPDX-License-Identifier: Apache-2.0
"""How many operations a step hands to the device, beside transformers' WavLM.

Each takes the host six to ten microseconds: on short utterances a GPU that waits for them is idle.
Tensors without data stand for a device's, so that no GPU is needed. Views, which start no work
there, are left out. Attention, one operation on a GPU, is counted in parts here.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.model.layout_configs import transformers_config

MOST = 1.2  # times those of transformers
SECONDS = {
    "5 x 15.6 s": [15.6] * 5,
    "8 x 10 s": [10.0] * 8,
    "43 x 2 s": [2.0] * 43,
    "mixed": [15.6, 15.6, 14.0, 12.3, 9.9, 7.0, 5.5, 4.0, 2.0],
}
NOT_WORK = {"aten._unsafe_view.default", "aten.detach.default"}  # views that do not say so


class Dispatched(TorchDispatchMode):
    """Counts operations that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not func.is_view and str(func) not in NOT_WORK:
            self.operations[str(func)] += 1
        return func(*args, **(kwargs or {}))


def count(module: nn.Module, forward: Callable[[], Tensor], *, training: bool) -> int:
    module.train(training)
    with Dispatched() as dispatched, torch.set_grad_enabled(training):
        output = forward()
        if training:
            output.float().mean().backward()
    return dispatched.operations.total()


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("batch", SECONDS)
@pytest.mark.parametrize("size", ["base", "large"])
def test_a_step_dispatches_no_more_than_transformers(size: str, batch: str, training: bool) -> None:
    transformers = pytest.importorskip("transformers")
    config = dataclasses.replace(WavLMConfig.preset(size), layer_drop=0.0)
    options = transformers_config(config) | {"layerdrop": 0.0, "apply_spec_augment": False}
    with torch.device("meta"):
        ours = WavLM(config)
        theirs = transformers.WavLMModel(transformers.WavLMConfig(**options))
    lengths = torch.tensor([round(s * 16_000) for s in SECONDS[batch]])
    waveforms = torch.empty(len(lengths), int(lengths.max()), device="meta")
    mask = None
    if batch == "mixed":
        mask = torch.empty(waveforms.shape, device="meta", dtype=torch.int64)
    wanted = count(
        theirs, lambda: theirs(waveforms, attention_mask=mask).last_hidden_state, training=training
    )
    found = count(ours, lambda: ours(waveforms, lengths).output, training=training)
    assert 300 < wanted < 5000
    assert found <= MOST * wanted
