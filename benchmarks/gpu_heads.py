# SPDX-License-Identifier: Apache-2.0
"""Parts of the GPU check about heads: are they right there, and what do many side by side cost."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.gpu_setting import Check, Fact
from wavlm_lightning.downstream.features.featurizer import Featurizer, FeaturizerConfig
from wavlm_lightning.downstream.features.frames import Features, Frames
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.heads.linear import FrameLinear
from wavlm_lightning.downstream.heads.mask import MaskBlstm
from wavlm_lightning.downstream.heads.pooling import MeanPoolLinear
from wavlm_lightning.downstream.heads.recurrent import LstmActivity, ProjectedBlstm
from wavlm_lightning.downstream.heads.xvector import XVector
from wavlm_lightning.downstream.upstreams.wavlm import WavLMUpstream

SIDE_BY_SIDE = 8  # learning rates of a sweep


def heads(check: Check) -> Iterator[Fact]:
    """Every head: relative difference of outputs and gradients from those of the CPU."""
    dim = 64
    made: dict[str, Callable[[], nn.Module]] = {
        "FrameLinear": lambda: FrameLinear(dim, 30, dropout=0.0),
        "MeanPoolLinear": lambda: MeanPoolLinear(dim, hidden=32, num_classes=5),
        "XVector": lambda: XVector(dim, width=32, num_classes=5),
        "ProjectedBlstm": lambda: ProjectedBlstm(
            dim, projection=32, hidden=32, num_layers=2, dropout=0.0, num_symbols=30
        ),
        "LstmActivity": lambda: LstmActivity(dim, hidden=32, num_speakers=2),
        "MaskBlstm": lambda: MaskBlstm(
            dim, hidden=32, num_layers=2, dropout=0.0, num_sources=2, num_bins=17
        ),
    }
    lengths = torch.tensor([41, 60, 20])
    x = torch.randn(3, 60, dim, generator=torch.Generator().manual_seed(0))
    x = x.masked_fill(torch.arange(60)[None, :, None] >= lengths[:, None, None], 0)
    for name, make in made.items():
        found = []
        for device in (torch.device("cpu"), check.device):
            torch.manual_seed(0)
            head = make().to(device)
            output = head(Frames(x.to(device), lengths))
            y = output.cosines if name == "XVector" else output
            y.float().square().mean().backward()
            gradients = [p.grad.flatten().cpu() for p in head.parameters() if p.grad is not None]
            found.append((y.detach().cpu(), torch.cat(gradients)))
        relative = [float((b - a).norm() / a.norm()) for a, b in zip(*found, strict=True)]
        yield {"what": "head", "head": name, "output": relative[0], "gradients": relative[1]}


def learners(check: Check) -> Iterator[Fact]:
    """A step of SUPERB's recognition head on a frozen upstream, of one and of eight together."""
    upstream = Frozen(WavLMUpstream(check.model()), precision="bfloat16")
    seconds, rows = (2.0, 2) if check.dry else (12.0, 16)
    waveforms, lengths = check.audio(seconds, rows)
    lengths = (lengths * torch.linspace(0.7, 1.0, rows)).long()
    for count in (1, SIDE_BY_SIDE):
        trained = [_learner(check, upstream) for _ in range(count)]
        streams = [] if check.dry else [torch.cuda.Stream() for _ in trained]
        optimizer = torch.optim.Adam([p for x in trained for p in x.parameters()], fused=True)

        def step(each: bool) -> None:
            features = upstream(waveforms, lengths)
            if each:
                losses = _on_streams(trained, streams, features)  # noqa: B023
            else:
                losses = [_loss(learner, features) for learner in trained]  # noqa: B023
            torch.stack(losses).sum().backward()
            optimizer.step()  # noqa: B023
            optimizer.zero_grad(set_to_none=True)  # noqa: B023

        for each in (False, True) if streams and count > 1 else (False,):
            yield {
                "what": "learners",
                "learners": count,
                "a_stream_each": each,
                "ms": round(check.milliseconds(lambda: step(each)), 1),  # noqa: B023
                "peak_gib": check.peak_gib(),
            }


def _learner(check: Check, upstream: Frozen) -> nn.ModuleList:
    """A weighted sum and SUPERB's recognition head, narrower in a dry run."""
    width = 32 if check.dry else 1024
    head = ProjectedBlstm(
        upstream.dim, projection=width, hidden=width, num_layers=2, dropout=0.2, num_symbols=32
    )
    featurizer = Featurizer(
        FeaturizerConfig(), num_layers=upstream.num_layers, stride=upstream.stride
    )
    return nn.ModuleList((featurizer, head)).to(check.device)


def _loss(learner: nn.ModuleList, features: Features) -> Tensor:
    featurizer, head = learner
    loss: Tensor = head(featurizer(features, features.lengths)).float().square().mean()
    return loss


def _on_streams(
    trained: list[nn.ModuleList], streams: list["torch.cuda.Stream"], features: Features
) -> list[Tensor]:
    """Losses, each worked out on a stream of its own; autograd goes back on the same."""
    here, losses = torch.cuda.current_stream(), []
    for learner, stream in zip(trained, streams, strict=True):
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            losses.append(_loss(learner, features))
    for stream in streams:
        here.wait_stream(stream)
    return losses
