# SPDX-License-Identifier: Apache-2.0
"""A lock file without some of its packages: `python -m recipes.slim requirements.lock NAME ...`."""

import sys
from pathlib import Path


def without(lock: str, names: list[str]) -> str:
    """The lock's text without these packages and their hashes.

    >>> without("a==1 \\\\\\n    --hash=x\\nb==2 \\\\\\n    --hash=y\\n", ["a"])
    'b==2 \\\\\\n    --hash=y\\n'
    """
    kept, skipping = [], False
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "\t")):
            skipping = line.partition("==")[0].strip() in names
        if not skipping:
            kept.append(line)
    return "".join(kept)


if __name__ == "__main__":
    sys.stdout.write(without(Path(sys.argv[1]).read_text(), sys.argv[2:]))
