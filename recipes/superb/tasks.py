# SPDX-License-Identifier: Apache-2.0
"""Say what the tasks are: python -m recipes.superb.tasks."""

import importlib

from downstream import task_names


def main() -> None:
    """Print each task's name and the first line of its docstring."""
    for name in task_names():
        module = importlib.import_module(f"downstream.tasks.{name}")
        print(f"{name:<6} {(module.__doc__ or '').splitlines()[0]}")


if __name__ == "__main__":
    main()
