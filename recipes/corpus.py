# SPDX-License-Identifier: Apache-2.0
"""Check an official corpus: what is there, what is missing, and the command that fetches it.

wavlm corpus --name=librispeech --dir=DIR [--task=asr] [--hashes=true]
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from wavlm_lightning.config import ConfigError, read_yaml
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.hashing import file_sha256
from wavlm_lightning.recipes.run.exit_status import exit_status
from wavlm_lightning.shipped import command, config_file

FILE = "corpora.yaml"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a corpus.

    Args:
        name: In the file of corpora.
        files: Pattern below the corpus.
        count: How many files; None: at least one.
        lines: How many lines the one file has; None: any.
        needs: Programs or tasks that need it.
        address: Of the file itself, where it is no archive's.
    """

    name: str
    files: str
    count: int | None = None
    lines: int | None = None
    needs: list[str] = field(default_factory=list)
    address: str = ""

    def found(self, root: Path) -> list[Path]:
        """Its files; those that begin with a dot are other systems' remarks."""
        return [path for path in root.glob(self.files) if not path.name.startswith(".")]

    def wrong(self, found: list[Path]) -> str:
        """What is wrong with its files, "" if nothing is."""
        wanted = f"{self.count:,}" if self.count is not None else "some"
        if not found:
            return f"missing ({wanted} of {self.files})"
        if self.count is not None and len(found) != self.count:
            return f"{len(found):,} files, {wanted} are wanted ({self.files})"
        if self.lines is not None:
            with found[0].open("rb") as file:
                lines = sum(1 for _ in file)
            if lines != self.lines:
                return f"{found[0].name} has {lines:,} lines, {self.lines:,} are wanted"
        return ""


def build_parser() -> Parser:
    """The options."""
    parser = Parser(prog="wavlm corpus", description=__doc__)
    parser.add_argument("--name", type=str, required=True, help="a key of section paths")
    parser.add_argument("--dir", type=str, required=True, help="where it lies")
    parser.add_argument("--task", type=str, default="", help="check what this task needs, no more")
    parser.add_argument(
        "--hashes", type=bool, default=False, help="also check archives that lie in or above it"
    )
    return parser


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 all there, 1 something is missing, or an error."""
    return exit_status(lambda: _check(argv))


def _check(argv: list[str]) -> int:
    options = build_parser().parse_args(argv)
    about, root = _corpus(options.name), Path(options.dir)
    if not root.is_dir():
        raise ConfigError(f"dir must be the folder of {options.name} (got {root}). Set DIR")
    parts = parts_of(about, options.task)
    if not parts:
        tasks = sorted({need for part in parts_of(about, "") for need in part.needs})
        raise ConfigError(f"task must be one of {', '.join(tasks)} (got {options.task})")
    print(f"{options.name}: {about['about']}")
    missing = []
    for part in parts:
        found = part.found(root)
        wrong = part.wrong(found)
        missing += [part] if wrong else []
        print(f"  {part.name:<18} {wrong or f'{len(found):,} files'}  [{', '.join(part.needs)}]")
    damaged = _damaged(about, root) if options.hashes else []
    for line in damaged:
        print(f"  {line}")
    if missing or damaged:
        _say_how_to_fetch(about, root, missing)
        return 1
    print("complete; name it in configs/paths.yaml, or on the command line:")
    print(f"next: {command()} {_next(options.task or parts[0].needs[0], options.name, root)}")
    return 0


def _corpus(name: str) -> dict[str, Any]:
    """What is known of a corpus.

    Raises:
        ConfigError: listing those that are known.
    """
    known = read_yaml(config_file(FILE))
    if name not in known:
        raise ConfigError(f"name must be one of {', '.join(known)} (got {name})")
    found: dict[str, Any] = known[name]
    return found


def parts_of(about: Mapping[str, Any], task: str) -> list[Part]:
    """Parts of a corpus that a task needs, all of them where none is named."""
    parts = [
        Part(name=name, address=values.get("from", ""), **_without(values, "from"))
        for name, values in about["parts"].items()
    ]
    return [part for part in parts if not task or task in part.needs]


def _without(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def _next(task: str, name: str, root: Path) -> str:
    """The command that uses a corpus for a task."""
    if task == "pretrain":
        return f"pretrain CONFIG=configs/pretrain/base.yaml data.root={quote(str(root))} ..."
    program = "finetune" if task == "ctc" else "superb"
    return f"{program} TASK={task} paths.{name}={quote(str(root))}"


def _damaged(about: Mapping[str, Any], root: Path) -> list[str]:
    """Archives that are there and have another hash than published; files alone cost hours."""
    lines = []
    for archive in about.get("archives", {}).values():
        name = archive["url"].rpartition("/")[2]
        for path in (root / name, root.parent / name):
            if "sha256" in archive and path.is_file() and file_sha256(path) != archive["sha256"]:
                lines.append(f"{path} has another SHA-256 than published: fetch it again")
    return lines


def _say_how_to_fetch(about: Mapping[str, Any], root: Path, missing: list[Part]) -> None:
    """Commands for what has an address; the rest is by request, or is made."""
    archives, told = about.get("archives", {}), False
    for part in missing:
        if part.address:
            print(f"fetch: curl -L -C - -o {quote(str(root / part.files))} {part.address}")
            told = True
        for name, archive in archives.items():
            if part.name in (name, archive.get("of")):
                to = root.parent / archive["url"].rpartition("/")[2]
                print(f"fetch: curl -L -C - -o {quote(str(to))} {archive['url']}")
                told = True
    if told:
        print(f"then unpack archives in {root.parent}, and check again with hashes=true")
    elif missing:
        print(f"to get it: {about['about']}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
