# SPDX-License-Identifier: Apache-2.0
"""Break the core a line at a time, and see that the tests which should notice do.

python -m tests.mutate [PART ...]: changes of mutations.yaml whose file holds a PART; all without.

Each runs in a copy of what git has of this folder. First the tests run there with nothing changed:
they must pass. A change is caught if a test fails; tests that do not start or find nothing to run
are no catch.
"""

import contextlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LIST = Path(__file__).with_name("mutations.yaml")
WORKERS = 2
PASSED, FAILED = 0, 1  # exit statuses of pytest


@dataclass(frozen=True)
class Mutation:
    """A line changed, and the tests that must fail then."""

    file: str
    old: str  # part of a line that the file has once
    new: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> None:
        """Change the file below a folder.

        Raises:
            ValueError: unless the file has the old part once, within a line.
        """
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1 or "\n" in self.old:
            raise ValueError(f"{self.file} has {text.count(self.old)} times: {self.old}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


def read_mutations(parts: list[str]) -> list[Mutation]:
    """Those of the list whose file holds one of the parts."""
    import yaml

    entries: list[dict[str, Any]] = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    found = [Mutation(e["file"], e["old"], e["new"], tuple(e["tests"].split())) for e in entries]
    return [m for m in found if not parts or any(part in m.file for part in parts)]


def copied(folder: Path) -> Path:
    """A copy of the files that git knows or would add, without what it ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


class Trial:
    """Tests in a process that has the libraries already and none of our code, on a changed copy."""

    def __init__(self, mutation: Mutation | None, tests: tuple[str, ...]):
        self.mutation = mutation
        self._folder = tempfile.TemporaryDirectory()
        root = copied(Path(self._folder.name) / "copy")
        if mutation is not None:
            mutation.apply(root)
        self._log = Path(self._folder.name) / "log.txt"
        self.child = multiprocessing.get_context("fork").Process(
            target=_run, args=(root, tests, self._log)
        )
        self.child.start()

    def end(self) -> tuple[int, str]:
        """Wait; the exit status of pytest and the end of what it printed."""
        self.child.join()
        said = self._log.read_text()[-3000:]
        self._folder.cleanup()
        return int(self.child.exitcode or 0), said


def _run(root: Path, tests: tuple[str, ...], log: Path) -> None:
    import pytest

    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root)  # processes that tests start elsewhere run it as well
    sys.path[:] = [str(root), *(p for p in sys.path if p not in ("", str(ROOT)))]
    with log.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        status = pytest.main(["-x", "-p", "no:cacheprovider", *tests])
    os._exit(int(status))


def trials(mutations: Iterable[Mutation]) -> Iterator[Trial]:
    """Trials as they end, `WORKERS` at a time."""
    waiting, running = iter(mutations), list[Trial]()
    while True:
        for mutation in islice(waiting, WORKERS - len(running)):
            running.append(Trial(mutation, mutation.tests))
        if not running:
            return
        ended = wait([trial.child.sentinel for trial in running])
        for trial in [trial for trial in running if trial.child.sentinel in ended]:
            running.remove(trial)
            yield trial


def _sound(mutations: list[Mutation]) -> bool:
    """Whether the tests pass with nothing changed."""
    tests = tuple(sorted({test for m in mutations for test in m.tests}))
    status, said = Trial(None, tests).end()
    if status != PASSED:
        print(f"error: with nothing changed these tests fail, status {status}:\n{said}")
    return status == PASSED


def _load_libraries() -> None:
    """Once, before processes fork; threads must not run by then."""
    sys.dont_write_bytecode = True  # a change keeps the size of a file, and maybe its time
    os.environ["OMP_NUM_THREADS"] = "1"
    import lightning  # noqa: F401
    import torch
    import torchaudio  # noqa: F401
    import torchmetrics  # noqa: F401

    torch.set_num_threads(1)


def main(parts: list[str]) -> int:
    """1 if a change was not caught."""
    started = time.perf_counter()
    _load_libraries()
    mutations = read_mutations(parts)
    with tempfile.TemporaryDirectory() as corpora:
        os.environ["WAVLM_TEST_CORPORA"] = corpora
        if not mutations or not _sound(mutations):
            return 1
        return _try_all(mutations, started)


def _try_all(mutations: list[Mutation], started: float) -> int:
    print(f"{len(mutations)} changes; unchanged, the tests pass", flush=True)
    survived = 0
    for trial in trials(mutations):
        (status, said), mutation = trial.end(), trial.mutation
        assert mutation is not None
        caught = status == FAILED
        survived += not caught
        mark = "caught  " if caught else "SURVIVED"
        print(f"{mark}  {mutation.file}: {mutation.new}", flush=True)
        if not caught:
            print(f"status {status}\n{said}", flush=True)
    seconds = time.perf_counter() - started
    print(f"{len(mutations) - survived} of {len(mutations)} caught, {seconds / 60:.1f} min")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
