# SPDX-License-Identifier: Apache-2.0
"""Kill a training again and again: does it end as one that was never stopped?

    python -m benchmarks.kills [--count=100] [--first=0] [--folder=DIR] [--temporary=DIR] [--keep]

Each sequence is one small pre-training, two iterations with labels and validation, that is killed
with SIGKILL up to three times: at a random moment, in the middle of writing a checkpoint, or right
before or after a file takes its place. Then it is run to its end. What counts is the last
checkpoint, byte for byte, the figures of the result, and every row of the logs but those of speed.
`--temporary` is the folder of temporary files, to have it on another file system than the run's.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wavlm_lightning.recipes  # isort: skip  (first: it sets how torch's threads wait)
import numpy as np
import soundfile
import torch

import wavlm_lightning.checkpoint_file
import wavlm_lightning.files
from wavlm_lightning.checkpoint_file import read_checkpoint
from wavlm_lightning.recipes.pretrain.__main__ import main as pretrain
from wavlm_lightning.recipes.run.curves import read_curves
from wavlm_lightning.recipes.run.folder import RESULT

assert wavlm_lightning.recipes
CONFIG = """
model: {size: mini, num_layers: 2, dim: 32, ffn_dim: 64, num_heads: 4, feature_encoder_dim: 16,
  position_kernel: 16, position_groups: 4, dropout: 0.1, layer_drop: 0.1}
data: {min_samples: 32000, max_samples: 48000, seconds_per_batch: 7, audio_seconds_per_update: 14,
  num_workers: 1}
mask: {prob: 0.65, length: 5, min_spans: 2}
mixing: {prob: 0.3, noise_prob: 0.3, speech_db: [-5, 5], noise_db: [-5, 20], max_overlap: 0.5}
labels: {features: hidden, layer: 2, num_clusters: 5, fit_share: 1.0}
objective: {projection_dim: 16, temperature: 0.1, feature_penalty: 10.0}
optim: {lr: 1.0e-3, betas: [0.9, 0.98], eps: 1.0e-6, weight_decay: 0.01, warmup_updates: 2,
  total_updates: 12, clip: 10.0}
run: {validate_updates: 4, checkpoint_updates: 3, name: tiny}
trainer: {accelerator: cpu, precision: 32-true, log_every_n_steps: 1}
iterations:
  - {labels.features: mfcc, mixing.prob: 0.0, optim.total_updates: 4}
"""
OF_SPEED = ("train/hours_per_hour", "train/mfu")
MOST_KILLS = 3


@dataclass(frozen=True)
class Kill:
    """When a run is killed: after some seconds, or at one of its writes."""

    how: str  # seconds, writing, before, after
    when: float  # seconds, or the number of the write


def prepare(root: Path) -> list[str]:
    """Recordings and a configuration in a folder; words of the command line."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    for split, count in (("train", 12), ("dev", 4), ("noise", 2)):
        for i in range(count):
            path = root / ("noise" if split == "noise" else f"speech/{split}") / f"{i:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            pitch = np.repeat(rng.choice([120, 200, 310, 450, 700], 22 + i), 1600)
            waveform = 0.1 * np.sin(2 * np.pi * np.cumsum(pitch) / 16_000)
            waveform += 0.01 * rng.standard_normal(len(waveform))
            soundfile.write(path, waveform.astype(np.float32), 16_000)
    (root / "tiny.yaml").write_text(CONFIG)
    return [
        f"--config={root}/tiny.yaml",
        f"--data.root={root}/speech",
        f"--data.noise={root}/noise",
    ]


def start(words: list[str], log: Path, kill: Kill | None) -> int:
    """The training in a process of its own group: a fork, which has everything imported."""
    sys.stdout.flush()
    if process := os.fork():
        return process
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        if kill is not None and kill.how != "seconds":
            _kill_at_write(kill)
        status = pretrain(words)
    except BaseException:
        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    os._exit(status)


def _kill_at_write(kill: Kill) -> None:
    """Let this process die at one of its writes."""
    done = {"replace": 0, "save": 0}

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def replace(source: Any, target: Any, real: Callable[..., None] = os.replace) -> None:
        done["replace"] += 1
        if done["replace"] == kill.when and kill.how == "before":
            die()
        real(source, target)
        if done["replace"] == kill.when and kill.how == "after":
            die()

    def save(content: Any, file: Any, real: Callable[..., None] = torch.save) -> None:
        done["save"] += 1
        real(content, file)
        if done["save"] == kill.when and kill.how == "writing":
            file.truncate(file.tell() // 2)
            file.flush()
            die()

    wavlm_lightning.files.os.replace = replace  # type: ignore[assignment]
    wavlm_lightning.checkpoint_file.torch.save = save  # type: ignore[assignment]


def wait(process: int, kill: Kill | None) -> int:
    """Its exit status, -9 if it was killed."""
    if kill is not None and kill.how == "seconds":
        end = time.monotonic() + kill.when
        while time.monotonic() < end:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def sequence(words: list[str], log: Path, rng: random.Random, *, seconds: float) -> list[Kill]:
    """Run to the end, killed up to three times on the way; `seconds` is what it takes unharmed.

    Raises:
        RuntimeError: with the end of the log, if it ends in an error.
    """
    kills: list[Kill] = []
    while True:
        kill = None
        if len(kills) < MOST_KILLS:
            how = rng.choice(["seconds", "seconds", "writing", "before", "after"])
            kill = Kill(how, rng.uniform(0, seconds) if how == "seconds" else rng.randint(1, 12))
        status = wait(start(words, log, kill), kill)
        if status == 0:
            return kills
        if status != -signal.SIGKILL or kill is None:
            raise RuntimeError(f"status {status}: {log.read_text()[-800:]}")
        kills.append(kill)


def differences(ours: Path, straight: Path) -> list[str]:
    """What a run has that differs from another one's."""
    found = []
    results = [json.loads((folder / RESULT).read_text()) for folder in (ours, straight)]
    found += [key for key in ("metrics", "counts") if results[0][key] != results[1][key]]
    for part in ("", "iteration1"):
        files = [folder / part / "checkpoints" / "last.ckpt" for folder in (ours, straight)]
        if files[0].read_bytes() != files[1].read_bytes():
            states = [read_checkpoint(file)["state_dict"] for file in files]
            same = all(torch.equal(states[0][name], states[1][name]) for name in states[1])
            found.append(f"{part} checkpoint ({'weights are equal' if same else 'weights too'})")
        curves = [read_curves(folder / part) for folder in (ours, straight)]
        for name in sorted(curves[0].keys() | curves[1].keys()):
            if name not in OF_SPEED and curves[0].get(name) != curves[1].get(name):
                found.append(f"{part} rows of {name}")
    return found


def main(argv: list[str]) -> int:
    """Print a line a sequence and how many were the same; 1 if any was not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first, which seeds it")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--temporary", type=Path, default=None)
    parser.add_argument("--keep", action="store_true", help="leave the folder of the runs")
    options = parser.parse_args(argv)
    if options.temporary is not None:
        os.environ["TMPDIR"] = str(options.temporary)
        tempfile.tempdir = None
    for folder in filter(None, (options.folder, options.temporary)):
        folder.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="kills-", dir=options.folder)) / "all"
    common = prepare(root)
    began = time.monotonic()
    if status := wait(start([*common, f"--run.dir={root}/straight"], root / "log", None), None):
        raise RuntimeError(f"status {status}: {(root / 'log').read_text()[-800:]}")
    seconds = time.monotonic() - began
    same = kills = 0
    for number in range(options.first, options.first + options.count):
        words = [*common, f"--run.dir={root}/{number}"]
        done = sequence(words, root / "log", random.Random(number), seconds=seconds)
        found = differences(root / f"{number}/tiny/latest", root / "straight/tiny/latest")
        kills, same = kills + len(done), same + (not found)
        how = ", ".join(f"{kill.how} {kill.when:.3g}" for kill in done) or "not killed"
        print(f"{number}: {how}: {'; '.join(found) or 'the same'}", flush=True)
        shutil.rmtree(root / str(number))
    print(f"{same} of {options.count} the same, {kills} kills, TMPDIR {tempfile.gettempdir()}")
    if not options.keep:
        shutil.rmtree(root.parent)
    return int(same < options.count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
