# SPDX-License-Identifier: Apache-2.0
"""One contender in a process of its own: a turn for every line that it reads.

python -m benchmarks.child NAME inference|training SETTING(JSON) tuned|plain

Answers each line with one of JSON: what a turn took of the machine (benchmarks/host.py), and the
MiB that parameters, gradients, optimizer and turns have added to the process, at their highest.
"tuned" has the threads and the allocator of our programs, "plain" has what Python comes with.
"""

import json
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def main(argv: list[str]) -> None:
    """See the module."""
    name, what, about, process = argv
    if process == "tuned":
        import wavlm_lightning.recipes  # noqa: F401  # sets them
    import torch

    from benchmarks.contenders import Setting, inference, training
    from benchmarks.host import measured

    setting = Setting(**json.loads(about))

    def peak() -> float:
        if setting.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return _peak_of_process()

    before = peak()
    work = {"training": training, "inference": inference}[what](name, setting)
    for _ in sys.stdin:
        print(json.dumps([*measured(work), peak() - before]), flush=True)


def _peak_of_process() -> float:
    """MiB; Linux's own figure, because `getrusage` counts the process that this one came from."""
    if STATUS.exists():
        (line,) = [x for x in STATUS.read_text().splitlines() if x.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
