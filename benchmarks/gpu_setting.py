# SPDX-License-Identifier: Apache-2.0
"""What the parts of the GPU check share: the device, the model, the audio, a step."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.model.config import Attention

Fact = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Check:
    """Where and how much.

    Args:
        size: Of the model.
        dry: On a CPU with the mini model, a step of a few seconds: whether everything runs.
    """

    size: str
    dry: bool

    @property
    def device(self) -> torch.device:
        """A GPU, or in a dry run the CPU."""
        return torch.device("cpu" if self.dry else "cuda")

    @property
    def seconds(self) -> float:
        """Audio of a step: HuBERT's 87.5 s a GPU."""
        return 4.0 if self.dry else 87.5

    @property
    def lengths(self) -> tuple[float, ...]:
        """Seconds of utterances that steps are timed with."""
        return (2.0,) if self.dry else (15.6, 8.0, 2.0)

    @property
    def repeats(self) -> int:
        """Timed steps."""
        return 1 if self.dry else 8

    def config(self, attention: Attention = "auto", **changes: Any) -> WavLMConfig:
        """The preset, without LayerDrop: the same work in every step."""
        preset = WavLMConfig.preset("mini" if self.dry else self.size)
        return dataclasses.replace(preset, attention=attention, layer_drop=0.0, **changes)

    def model(self, attention: Attention = "auto", **changes: Any) -> WavLM:
        """Random weights, the same each time."""
        torch.manual_seed(0)
        return WavLM(self.config(attention, **changes)).to(self.device)

    def audio(self, seconds: float, rows: int | None = None) -> tuple[Tensor, Tensor]:
        """Noise (B, T) on the device, as many rows as make a step, and lengths (B,) on the host."""
        rows = rows or max(1, int(self.seconds // seconds))
        samples = round(seconds * SAMPLE_RATE)
        waveforms = 0.1 * torch.randn(rows, samples, device=self.device)
        return waveforms, torch.full((rows,), samples)

    def wait(self) -> None:
        """Wait for the device."""
        if not self.dry:
            torch.cuda.synchronize()

    def milliseconds(self, work: Callable[[], Any]) -> float:
        """Mean of the timed repeats, after three that are not timed."""
        for _ in range(1 if self.dry else 3):
            work()
        self.wait()
        start = time.perf_counter()
        for _ in range(self.repeats):
            work()
        self.wait()
        return (time.perf_counter() - start) / self.repeats * 1e3

    def peak_gib(self) -> float | None:
        """Most memory since the last call."""
        if self.dry:
            return None
        peak = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
        return round(peak, 2)


class Step:
    """Forward, backward and AdamW in bfloat16 on one batch after the other."""

    def __init__(self, module: nn.Module, forward: Callable[..., Tensor], device: torch.device):
        self.forward, self.device = forward, device
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)

    def __call__(self, *batch: Any) -> None:
        """One update."""
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.forward(*batch)
        # The mean of a layer-normed output is constant: a ramp is not.
        ramp = torch.linspace(-1, 1, output.shape[-1], device=output.device)
        (output.float() * ramp).mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def our_steps(check: Check) -> Iterator[tuple[bool, WavLM, Step]]:
    """Ours, compiled and not, each from the start; in a dry run not compiled alone."""
    for compiled in (False,) if check.dry else (True, False):
        torch._dynamo.reset()
        model = check.model().train()
        if compiled:
            model.compile_regions()
        yield compiled, model, our_step(check, model)


def our_step(check: Check, model: WavLM) -> Step:
    """A function that runs one update of our model."""
    return Step(model, lambda *batch: model(*batch).output, check.device)
