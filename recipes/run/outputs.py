# SPDX-License-Identifier: Apache-2.0
"""A folder with a file for each recording: shared by processes, and gone on with after a stop."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from wavlm_lightning.audio import AudioError
from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.downstream.features.windows import WindowConfig
from wavlm_lightning.fields import Range
from wavlm_lightning.files import read_json, write_text
from wavlm_lightning.names import safe_name, write_index
from wavlm_lightning.pretrain.walk import Walk
from wavlm_lightning.recipes.run.counter import counter
from wavlm_lightning.recipes.run.processes import Processes, join

MODEL = "model.json"  # whose the files are
UNUSABLE = "unusable.tsv"
AT_ONCE = 64  # recordings that are read before they are sorted into batches


class Recordings(NamedTuple):
    """Recordings below a folder."""

    root: Path
    names: list[str]
    report: str  # of other files there


def recordings_in(path: Path) -> Recordings:
    """One recording, or all of a folder.

    Raises:
        ConfigError: if there is none.
    """
    if path.is_file():
        return Recordings(path.parent, [path.name], "")
    if not path.is_dir():
        raise ConfigError(f"input={path}: there is no such file or folder")
    walk = Walk(path)
    names = sorted(walk(path))
    if not names:
        raise ConfigError(f"input={path}: there are no recordings in it")
    return Recordings(path, names, walk.report())


class Outputs:
    """Where one program writes about recordings.

    Args:
        folder: New, or of the same program with the same settings.
        about: What makes files of others different: hashes and settings.
        ending: Of the file that is written last for a recording.
        notes: What else to keep beside the files.
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        *,
        ending: str,
        notes: Mapping[str, Any] | None = None,
    ):
        self.folder, self.about, self.ending = folder, dict(about), ending
        self.notes = dict(notes or {})

    def check(self, recordings: Recordings, source: Path) -> None:
        """Find what would mix files up, before anything is loaded.

        Raises:
            ConfigError: if the folder lies among the recordings, or is another program's.
        """
        inside = self.folder.resolve().is_relative_to(recordings.root.resolve())
        if source.is_dir() and inside:
            raise ConfigError(
                f"out={self.folder} must not lie in input={recordings.root}: what is written there "
                "would be read the next time"
            )
        known = read_json(self.folder / MODEL) if (self.folder / MODEL).is_file() else self.about
        for key, value in self.about.items():
            if known.get(key) != value:
                theirs, ours = str(known.get(key))[:12], str(value)[:12]
                raise ConfigError(
                    f"out={self.folder} holds files with {key}={theirs} (this run has {ours}). Set "
                    "out to another folder"
                )

    def file(self, name: str, ending: str = "") -> Path:
        """File of a recording, under its whole name: a.wav and a.flac are two."""
        return self.folder / f"{safe_name(name)}.{ending or self.ending}"

    def left(self, names: Sequence[str]) -> list[str]:
        """Recordings without a file."""
        return [name for name in names if not self.file(name).is_file()]

    def claim(self) -> None:
        """Say whose files these are from now on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / MODEL, json.dumps(self.notes | self.about, indent=2) + "\n")

    def finish(self, names: Sequence[str], bad: Mapping[str, str]) -> None:
        """Say which file is whose, and which recordings could not be used."""
        write_index(self.folder, names)
        (self.folder / UNUSABLE).unlink(missing_ok=True)  # of the last time
        if bad:
            lines = [f"{name}\t{why}\n" for name, why in sorted(bad.items())]
            write_text(self.folder / UNUSABLE, "".join(lines))
            reasons = "; ".join(list(bad.values())[:3])
            where = self.folder / UNUSABLE
            print(f"left out, unusable: {len(bad)} files ({reasons}), see {where}", flush=True)


def add_options(parser: Parser) -> None:
    """Options of every program that writes about recordings."""
    parser.add_argument("--input", type=str, required=True, help="a recording, or a folder of them")
    parser.add_argument("--out", type=str, required=True, help="folder of what is written")
    parser.add_argument("--device", type=str, default="", help="cuda or cpu; a GPU if there is one")
    parser.add_section(WindowConfig)
    parser.add_number("processes", Range(1, 1024), type=int, default=1, help="on this machine")


def windows_from(values: Mapping[str, Any]) -> WindowConfig:
    """How recordings are cut, from the values of `add_options`."""
    return WindowConfig(**{f.name: values[f.name] for f in fields(WindowConfig)})


def join_and_count(outputs: Outputs, recordings: Recordings) -> tuple[Processes, list[str]]:
    """Join the other processes, and say which recordings have no file yet."""
    processes = join()
    left = outputs.left(recordings.names)
    if processes.first:
        count = len(recordings.names)
        if recordings.report:
            print(recordings.report)
        print(f"{count} recordings, {count - len(left)} of them done before", flush=True)
    processes.barrier()  # what is written from here on is not counted as done before
    return processes, left


def work_through(
    outputs: Outputs,
    recordings: Recordings,
    left: Sequence[str],
    processes: Processes,
    *,
    doing: str,
    prepare: Callable[[Path], Tensor],
    compute: Callable[[list[Tensor]], Sequence[Any]],
    write: Callable[[str, Any], None],
) -> int:
    """Do the same with every recording that is left, shared between processes.

    Args:
        outputs: Where files are written.
        recordings: All of them.
        left: Names of those without a file.
        processes: All of them call this.
        doing: What the counter says.
        prepare: A file -> samples (T,); raises AudioError for what cannot be used.
        compute: Samples (T_i,) of several -> what is written of each.
        write: Writes what was computed for a name; the last file last.

    Returns:
        How many recordings were written, by all processes.
    """
    if processes.first:
        outputs.claim()
    processes.barrier()
    bad: dict[str, str] = {}
    own = left[processes.rank :: processes.world]
    show = counter(doing) if processes.first else None
    for first in range(0, len(own), AT_ONCE):
        part = own[first : first + AT_ONCE]
        usable: dict[str, Tensor] = {}
        for name in part:
            try:
                usable[name] = prepare(recordings.root / name)
            except AudioError as error:
                bad[name] = str(error)
        for name, found in zip(usable, compute(list(usable.values())), strict=True):
            write(name, found)
        if show is not None:
            show(first + len(part), len(own))
    bad = {name: why for one in processes.from_all(bad) for name, why in one.items()}
    if processes.first:
        outputs.finish(recordings.names, bad)
    return len(left) - len(bad)
