# SPDX-License-Identifier: Apache-2.0
"""What a trained head hears in recordings: from a checkpoint alone, without a corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor

from wavlm_lightning.audio import AudioError, sound_of
from wavlm_lightning.checkpoint_file import read_checkpoint
from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.policy import ENCODER
from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.featurizer import FeaturizerConfig
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.features.upstream import load_upstream
from wavlm_lightning.downstream.features.windows import (
    WindowConfig,
    each_recording,
    frames_in_windows,
)
from wavlm_lightning.downstream.task import Batch
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.downstream.upstreams.wavlm import WavLMUpstream
from wavlm_lightning.fields import nested
from wavlm_lightning.lengths import RECEPTIVE_FIELD, pad_batch
from wavlm_lightning.model.checkpoint import load_wavlm
from wavlm_lightning.shipped import command


class Predictor:
    """A task's head and its upstream, as a checkpoint of `make superb` or `make finetune` has them.

    Args:
        path: The checkpoint.
        upstream: Where the upstream is now, if it is not where it was: file, folder or hub id.
        device: "cuda", "cpu" or the like; None: a GPU if there is one.
        precision: Of the upstream: auto, float32 or bfloat16.
        windows: How long recordings are cut for the upstream; the head sees all of their frames.

    Raises:
        FileNotFoundError: if the checkpoint or the upstream is not there.
        ValueError: if it is no checkpoint of a task, or the upstream is another one.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        upstream: str | None = None,
        device: str | None = None,
        precision: str = "auto",
        windows: WindowConfig | None = None,
    ):
        content = read_checkpoint(Path(path))
        if "predictor" not in content:
            raise ValueError(
                f"{path} must be a checkpoint that {command()} superb or {command()} finetune left "
                "since 28 November 2026, such as checkpoints/best.ckpt of a finished run"
            )
        about = content["predictor"]
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.windows = windows or WindowConfig()
        frozen = _upstream(Path(path), about, upstream, precision)
        kind = load_task(about["task"])
        assert issubclass(kind, TrainedTask)
        task = kind.rebuilt(
            _config(kind.Config, about["config"]), about["vocabulary"], framing=frozen
        )
        featurizer = about["featurizer"] | ({"layer": None} if about["tuned"] else {})
        learner = Learner(task, frozen, FeaturizerConfig(**featurizer), lr=1.0, seed=0)
        learner.task.chosen = dict(about["chosen"])  # a learner's task begins without
        state = content["state_dict"]
        learner.load_state_dict({n: v for n, v in state.items() if not n.startswith(ENCODER)})
        self.upstream = frozen.to(self.device)
        self.learner = learner.to(self.device).eval().requires_grad_(False)
        self.task: TrainedTask[Any] = learner.task

    def __call__(self, recordings: Sequence[str | Path | Tensor]) -> list[dict[str, Any]]:
        """What is heard in each recording, in their order.

        Args:
            recordings: Files at any rate, or samples (T,) float32 at 16 kHz.

        Raises:
            AudioError: as `prepared`.
        """
        return self.hear([self.prepared(recording) for recording in recordings])

    def prepared(self, recording: str | Path | Tensor) -> Tensor:
        """Samples (T,) of a recording as the upstream is given them.

        Args:
            recording: A file at any rate, or samples (T,) float32 at 16 kHz.

        Raises:
            AudioError: for a file that cannot be read, or a recording that is silent, or shorter
                than one frame once the task has removed what it removes.
        """
        waveform = recording if isinstance(recording, Tensor) else sound_of(recording)
        waveform = self.task.prepared(waveform)
        if len(waveform) < RECEPTIVE_FIELD:
            name = "a recording" if isinstance(recording, Tensor) else recording
            raise AudioError(
                f"{name}: {len(waveform)} samples, at least {RECEPTIVE_FIELD} are needed"
            )
        return waveform

    def hear(self, waveforms: Sequence[Tensor]) -> list[dict[str, Any]]:
        """What is heard in recordings (T_i,) that are `prepared`, in their order."""
        return each_recording(waveforms, self.windows, together=self._batch, alone=self._in_windows)

    @torch.inference_mode()
    def _batch(self, waveforms: list[Tensor]) -> list[dict[str, Any]]:
        batch = self._collated(waveforms)
        return self.task.readable(self.learner.head, self._frames(batch), batch)

    @torch.inference_mode()
    def _in_windows(self, waveform: Tensor) -> dict[str, Any]:
        def compute(pieces: list[Tensor]) -> list[Tensor]:
            x, lengths = self._frames(self._collated(pieces))
            return [row[: int(count)] for row, count in zip(x, lengths, strict=True)]

        frames = frames_in_windows(waveform, self.upstream, compute, self.windows)
        (heard,) = self.task.readable(self.learner.head, frames, self._collated([waveform]))
        return {**heard, "window_seconds": self.windows.window_seconds}

    def _frames(self, batch: Batch) -> Frames:
        frames: Frames = self.learner(self.upstream(batch.waveforms, batch.lengths), batch)
        return frames

    def _collated(self, waveforms: list[Tensor]) -> Batch:
        padded, lengths = pad_batch(waveforms)
        count = len(waveforms)
        return Batch(
            padded.to(self.device),
            lengths,
            targets=[None] * count,
            ids=[str(i) for i in range(count)],
            indices=list(range(count)),
            epochs=[0] * count,
            keys=[None] * count,
            read=[True] * count,
        )

    def similarity(self, first: str | Path | Tensor, second: str | Path | Tensor) -> float:
        """Cosine of the embeddings of two recordings, of a verification head.

        Args:
            first: A file, or samples (T,) float32 at 16 kHz.
            second: Another one.

        Raises:
            ValueError: if the head gives no embeddings.
        """
        found = self([first, second])
        if "embedding" not in found[0]:
            raise ValueError(
                f"similarity needs a head of verification (got one of {self.task.name})"
            )
        a, b = (torch.tensor(one["embedding"]) for one in found)
        return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def _upstream(path: Path, about: Mapping[str, Any], now: str | None, precision: Any) -> Frozen:
    """The upstream that a head was trained on; of a tuned encoder, what the checkpoint holds."""
    if about["tuned"]:
        model = load_wavlm(path)
        layer = about["featurizer"]["layer"]
        return Frozen(WavLMUpstream(model, layer=layer), precision=precision)
    known = {field.name for field in fields(UpstreamConfig)}
    values = {key: value for key, value in about["upstream"].items() if key in known}
    values |= {"precision": precision} | ({"source": now} if now else {})
    frozen, digest = load_upstream(UpstreamConfig(**values))
    expected = about["upstream"]["sha256"]
    if digest != expected:
        raise ValueError(
            f"{values['source']} is not the upstream that {path} was trained on: its hash is "
            f"{digest[:12]}, that one's {expected[:12]}. Set upstream to that one"
        )
    return frozen


def _config(cls: type, values: Mapping[str, Any]) -> Any:
    """A section with the sections in it, from plain values."""
    hints = get_type_hints(cls)
    built = {}
    for name, value in values.items():
        inner = nested(hints[name])
        built[name] = value if inner is None or value is None else _config(inner, value)
    return cls(**built)
