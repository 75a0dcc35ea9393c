# SPDX-License-Identifier: Apache-2.0
"""List the tasks: wavlm tasks."""

import importlib
import sys

from wavlm_lightning.downstream import task_names


def main(argv: list[str]) -> int:
    """Print each task's name and the first line of its docstring."""
    if argv:
        print(f"error: tasks takes no argument (got {' '.join(argv)})", file=sys.stderr)
        return 1
    for name in task_names():
        module = importlib.import_module(f"wavlm_lightning.downstream.tasks.{name}")
        print(f"{name:<6} {(module.__doc__ or '').splitlines()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
