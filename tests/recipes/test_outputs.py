# SPDX-License-Identifier: Apache-2.0
"""Recordings are shared between processes: each is computed once, whoever does it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wavlm_lightning.audio import AudioError
from wavlm_lightning.recipes.run.outputs import Outputs, Recordings, work_through
from wavlm_lightning.recipes.run.processes import Processes


class Alone(Processes):
    """One of several, that need not wait for the others."""

    def barrier(self) -> None:
        pass

    def from_all(self, value: Any) -> list[Any]:
        return [value]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_recording_is_computed_by_one_process(world: int, tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(7)]
    outputs, done, bad = Outputs(tmp_path / "out", {"a": 1}, ending="txt"), [], 0

    def prepare(path: Path) -> Tensor:
        if path.name == "3.wav":
            raise AudioError("3.wav is broken")
        return torch.tensor([float(path.stem)])

    for rank in range(world):
        written: list[str] = []
        count = work_through(
            outputs,
            Recordings(tmp_path, names, ""),
            names,
            Alone(rank, world, world),
            doing="trying",
            prepare=prepare,
            compute=lambda waveforms: [float(waveform) for waveform in waveforms],
            write=lambda name, value, to=written: to.append(f"{value:.0f}.wav {name}"),  # type: ignore[misc]
        )
        bad += len(names) - count
        done += written
    assert sorted(done) == [f"{n} {n}" for n in names if n != "3.wav"]
    assert bad == 1
