# SPDX-License-Identifier: Apache-2.0
"""What SUPERB's recognition asks of a processor: uneven utterances through a frozen upstream, and
a step of its published head."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders import Setting, Transformers, config
from benchmarks.host import measured
from benchmarks.names import HEAD_BF16, HEAD_FP32, OURS, PADDED
from benchmarks.timing import Turn, figures, interleaved
from wavlm_lightning import WavLM
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.heads.recurrent import ProjectedBlstm
from wavlm_lightning.downstream.upstreams.wavlm import WavLMUpstream
from wavlm_lightning.lengths import SAMPLE_RATE

UTTERANCES, SHORTEST, LONGEST = 8, 1.4, 12.2  # seconds
ROWS, FRAMES = 16, 250  # of a step of the head: SUPERB's batch, of 5 s and less


def recognition(size: str, *, runs: int) -> Iterator[dict[str, Any]]:
    """An uneven batch, then the head."""
    waveforms, lengths = _uneven()
    works = {
        OURS: _frozen(size, waveforms, lengths),
        PADDED: _padded(size, waveforms, lengths),
    }
    yield from _lines("uneven batch", works, runs=runs, ours=OURS)
    head = ProjectedBlstm(
        config(size).dim, projection=1024, hidden=1024, num_layers=2, dropout=0.2, num_symbols=32
    )
    for what, rows, frames in (
        ("published recognition head", ROWS, FRAMES),
        ("published recognition head, one utterance", 1, 2 * FRAMES),
    ):
        steps = {
            HEAD_BF16: _head_step(head, rows, frames, bf16=True),
            HEAD_FP32: _head_step(head, rows, frames, bf16=False),
        }
        yield from _lines(what, steps, runs=min(runs, 3), ours=HEAD_BF16)


def _lines(
    what: str, works: dict[str, Callable[[], Any]], *, runs: int, ours: str
) -> Iterator[dict[str, Any]]:
    turns = {name: _turn(work) for name, work in works.items()}
    for name, timed in interleaved(turns, runs=runs, ours=ours).items():
        yield {"what": what, "contender": name, **figures(timed)}


def _turn(work: Callable[[], Any]) -> Callable[[], Turn]:
    return lambda: Turn(measured(work), 0.0)


def _uneven() -> tuple[Tensor, Tensor]:
    """Noise (B, T) from the shortest to the longest, in a random order, and lengths (B,)."""
    generator = torch.Generator().manual_seed(0)
    lengths = (torch.linspace(SHORTEST, LONGEST, UTTERANCES) * SAMPLE_RATE).long()
    lengths = lengths[torch.randperm(UTTERANCES, generator=generator)]
    waveforms = 0.1 * torch.randn(UTTERANCES, int(lengths.max()), generator=generator)
    there = torch.arange(waveforms.shape[1]) < lengths[:, None]
    return waveforms * there, lengths


def _frozen(size: str, waveforms: Tensor, lengths: Tensor) -> Callable[[], Any]:
    upstream = Frozen(WavLMUpstream(WavLM(config(size))), precision="bfloat16")
    return lambda: upstream(waveforms, lengths)


def _padded(size: str, waveforms: Tensor, lengths: Tensor) -> Callable[[], Any]:
    setting = Setting(size, bf16=True)
    model = Transformers(setting).encoder.eval()
    mask = (torch.arange(waveforms.shape[1]) < lengths[:, None]).long()

    def run() -> Any:
        with torch.no_grad(), setting.autocast():
            return model(waveforms, attention_mask=mask, output_hidden_states=True)

    return run


def _head_step(head: ProjectedBlstm, rows: int, frames: int, *, bf16: bool) -> Callable[[], None]:
    """Forward and backward of frames of 70 to 100 % of the longest."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, frames, head.projection.in_features, generator=generator)
    lengths = (torch.linspace(1.0, 0.7, rows) * frames).long()
    x = x * (torch.arange(frames)[:, None] < lengths[:, None, None])

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = head(Frames(x, lengths))
        logits.float().square().mean().backward()
        head.zero_grad()

    return run
