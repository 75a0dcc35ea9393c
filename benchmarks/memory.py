# SPDX-License-Identifier: Apache-2.0
"""Peak memory of one contender in a process of its own.

python -m benchmarks.memory NAME WHAT SIZE ROWS SECONDS bf16|fp32 DEVICE

Prints MiB that parameters, gradients, optimizer and one step (two for training, since the first
makes the optimizer's state) add to a process that has only loaded the libraries.
"""

import resource
import subprocess
import sys

import torch

from benchmarks.contenders import Setting, inference, training


def peak_mib(name: str, what: str, setting: Setting) -> float:
    """Measured in a child."""
    rest = [setting.size, setting.rows, setting.seconds, "bf16" if setting.bf16 else "fp32"]
    command = [sys.executable, "-m", "benchmarks.memory", name, what, *map(str, rest)]
    done = subprocess.run(
        [*command, setting.device], check=True, capture_output=True, text=True, timeout=1200
    )
    return float(done.stdout.split()[-1])


def main(argv: list[str]) -> None:
    """See the module."""
    name, what, size, rows, seconds, precision, device = argv
    setting = Setting(size, int(rows), float(seconds), precision == "bf16", device)
    before = _peak(device)
    work = (training if what == "training" else inference)(name, setting)
    for _ in range(2):
        work()
    print(round(_peak(device) - before, 1))


def _peak(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
