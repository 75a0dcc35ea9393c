# SPDX-License-Identifier: Apache-2.0
"""Where the tasks are as published, and where they are not: mechanism, reference, ours.

wavlm fidelity [TASK ...]
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wavlm_lightning.config import ConfigError, flat, read_yaml
from wavlm_lightning.downstream import task_names
from wavlm_lightning.recipes.run.exit_status import end_with_reader
from wavlm_lightning.shipped import config_file

SAME = "the same"


@dataclass(frozen=True)
class Mechanism:
    """One thing of a task's protocol.

    Args:
        task: Name of the task.
        name: A configuration key, or what else it is.
        reference: The published value; None where it is no value.
        ours: The value in configs/superb; None where it is no value.
        difference: In words; "" where there is none.
    """

    task: str
    name: str
    reference: Any
    ours: Any
    difference: str

    @property
    def told(self) -> bool:
        """Whether ours is the published value, or is named where the difference is explained."""
        return self.reference == self.ours or self.difference.startswith(f"{self.ours}: ")


def mechanisms(task: str, reference: Mapping[str, Any], ours: Mapping[str, Any]) -> list[Mechanism]:
    """Those of a task, from its sections of both files."""
    differs: dict[str, str] = dict(reference.get("differs", {}))
    found = [
        Mechanism(task, key, value, ours.get(key), differs.pop(key, ""))
        for key, value in reference["values"].items()
    ]
    return found + [Mechanism(task, name, None, None, why) for name, why in differs.items()]


def read_mechanisms(tasks: Sequence[str]) -> list[Mechanism]:
    """Mechanisms of several tasks.

    Raises:
        ConfigError: for a task that the file of published values lacks.
    """
    file, found = config_file("fidelity", "superb.yaml"), list[Mechanism]()
    published = read_yaml(file)
    for task in tasks:
        if task not in published:
            raise ConfigError(f"{file} has no task {task}; there are {', '.join(published)}")
        ours = flat(read_yaml(config_file("superb", f"{task}.yaml")))
        found += mechanisms(task, published[task], ours)
    return found


def main(argv: list[str]) -> int:
    """Print a table; 1 if a value differs and nobody says why."""
    try:
        found = read_mechanisms(argv or task_names())
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("| task | mechanism | reference | ours |\n|---|---|---|---|")
    for m in found:
        reference = "" if m.reference is None else str(m.reference)
        ours = m.difference or (SAME if m.reference == m.ours else f"NOT EXPLAINED: {m.ours}")
        print(f"| {m.task} | {m.name} | {reference} | {ours} |")
    wrong = [m for m in found if not m.told]
    same = sum(m.reference == m.ours is not None for m in found)
    print(f"\n{len(found)} mechanisms: {same} the same, {len(found) - same - len(wrong)} explained")
    return 1 if wrong else 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main(sys.argv[1:]))
