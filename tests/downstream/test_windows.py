# SPDX-License-Identifier: Apache-2.0
"""A long recording in windows has the frames that it has as a whole."""

import pytest
import torch

from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.features.windows import WindowConfig, frames_in_windows, windows_of
from wavlm_lightning.downstream.upstreams.fbank import Fbank
from wavlm_lightning.downstream.upstreams.wavlm import WavLMUpstream
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.wavlm import WavLM


@pytest.mark.parametrize("frames", [1, 9, 10, 11, 99, 100, 101])
@pytest.mark.parametrize("context", [0, 3, 25])
def test_windows_keep_every_frame_once(frames: int, context: int) -> None:
    windows = list(windows_of(frames, length=10, context=context))
    kept = [frame for w in windows for frame in range(w.start, w.stop)]
    assert kept == list(range(frames))
    for window in windows:
        assert 0 <= window.first <= window.start < window.stop <= window.last <= frames
        assert window.start - window.first in (context, window.start)


@pytest.mark.parametrize("samples", [16_000 * 5, 16_000 * 5 + 7, 16_000 * 7 + 399, 40_123])
@torch.no_grad()
def test_frames_that_depend_on_their_neighbours_alone_are_the_same(samples: int) -> None:
    upstream = Frozen(Fbank(cmvn=False))
    waveform = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    (whole,) = upstream(waveform[None], torch.tensor([samples])).layers
    sizes: list[list[int]] = []

    def compute(pieces: list[torch.Tensor]) -> list[torch.Tensor]:
        sizes.append([len(piece) for piece in pieces])
        return [upstream(p[None], torch.tensor([len(p)])).layers[0][0] for p in pieces]

    config = WindowConfig(window_seconds=1, context_seconds=0.2, batch_seconds=3)
    found = frames_in_windows(waveform, upstream, compute, config)
    assert found.lengths.tolist() == [whole.shape[1]]
    torch.testing.assert_close(found.x, whole, rtol=1e-4, atol=1e-4)
    assert max(len(part) for part in sizes) == 2  # of 1.4 s each, within the three of a batch
    assert max(max(part) for part in sizes) < 1.5 * 16_000


@torch.no_grad()
def test_frames_of_a_transformer_are_nearly_the_same_where_windows_meet() -> None:
    torch.manual_seed(0)
    upstream = Frozen(WavLMUpstream(WavLM(WavLMConfig.mini()).eval()))
    samples = 16_000 * 9
    waveform = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(0))
    whole = upstream(waveform[None], torch.tensor([samples])).layers[-1][0]

    def compute(pieces: list[torch.Tensor]) -> list[torch.Tensor]:
        return [upstream(p[None], torch.tensor([len(p)])).layers[-1][0] for p in pieces]

    config = WindowConfig(window_seconds=3, context_seconds=1)
    found = frames_in_windows(waveform, upstream, compute, config).x[0]
    assert found.shape == whole.shape
    away = (found - whole).norm() / whole.norm()
    assert 0 < float(away) < 0.2
