# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a representation on the tasks of SUPERB and others."""

import importlib
import pkgutil
from typing import Any

if __name__ == "downstream":  # as a checkout lets it be found: every class would be there twice
    raise ImportError("downstream is part of a package: import wavlm_lightning.downstream")

from wavlm_lightning.downstream import tasks
from wavlm_lightning.downstream.task import Task

__all__ = ["load_task", "task_names"]


def task_names(suite: str = "superb") -> list[str]:
    """Names of the tasks of a suite."""
    return [name for name in _modules() if load_task(name).suite == suite]


def _modules() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(tasks.__path__))


def load_task(name: str) -> type[Task[Any]]:
    """The class of a task.

    Raises:
        ValueError: listing the tasks there are, or the classes of a file that must define one.
    """
    if name not in _modules():
        raise ValueError(f"no task {name}; there are {', '.join(_modules())}")
    module = importlib.import_module(f"wavlm_lightning.downstream.tasks.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Task)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(kind.__name__ for kind in found) or "none"
        raise ValueError(f"downstream/tasks/{name}.py must define one task (got {names})")
    return found[0]
