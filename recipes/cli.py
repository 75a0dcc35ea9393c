# SPDX-License-Identifier: Apache-2.0
"""The command `wavlm`, and what make runs: a program, and words for it.

    wavlm superb TASK=asv UPSTREAM=fbank optim.lr=1e-3
    wavlm superb asv fbank --optim.lr=1e-3

Upper-case words are of the program, lower-case ones are configuration. A program is imported when
it is asked for, so that this answers at once.
"""

import difflib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from wavlm_lightning.shipped import version

WORD = re.compile(r"([A-Z]+)=(.*)", re.DOTALL)
KEY = re.compile(r"[a-z][\w.]*=")
MINI = "configs/pretrain/mini.yaml"


class UsageError(ValueError):
    """A program or a word that is not there."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program, and how its words become arguments.

    Args:
        module: Below `wavlm_lightning.recipes`; its `main` takes the arguments.
        summary: One line for the list of programs.
        positional: Words that stand first, by name or by place.
        options: Words and the options that they set.
        defaults: Values of words that are not said.
    """

    module: str
    summary: str
    positional: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """All upper-case words that it takes."""
        return [*self.positional, *self.options]


UPSTREAM = {"UPSTREAM": "wavlm_mini"}
HEADS = {"LR": "optim.lr", "SEED": "seed"}  # several values are heads that train side by side
PROGRAMS = {
    "pretrain": Program(
        module="pretrain.__main__",
        summary="train WavLM: [CONFIG=FILE] [data.root=DIR] [key=value ...]",
        options={"CONFIG": "--config"},
        defaults={"CONFIG": MINI},
    ),
    "superb": Program(
        module="superb.__main__",
        summary="evaluate a frozen upstream: TASK|all UPSTREAM [LR=1e-4,1e-3|sweep] [SEED=0,1]",
        positional=("TASK", "UPSTREAM"),
        options=HEADS,
        defaults={"TASK": "all", **UPSTREAM},
    ),
    "finetune": Program(
        module="finetune.__main__",
        summary="train encoder and head: TASK UPSTREAM [CONFIG=FILE] [key=value ...]",
        positional=("TASK", "UPSTREAM"),
        options={"CONFIG": "--config"},
        defaults={"TASK": "ctc", **UPSTREAM},
    ),
    "predict": Program(
        module="predict",
        summary="predict with a trained head: CKPT=FILE IN=FILE|DIR OUT=DIR [upstream=SOURCE]",
        options={"CKPT": "--ckpt", "IN": "--input", "OUT": "--out"},
    ),
    "features": Program(
        module="features",
        summary="write features of recordings: UPSTREAM IN=DIR OUT=DIR [layer=9|last|mean|all]",
        positional=("UPSTREAM",),
        options={"IN": "--input", "OUT": "--out"},
        defaults=UPSTREAM,
    ),
    "labels": Program(
        module="pretrain.labels",
        summary="label recordings for pre-training: root=DIR out=DIR features=hidden teacher=CKPT",
    ),
    "manifest": Program(
        module="pretrain.manifest", summary="list recordings in fairseq's tsv: root=DIR out=DIR"
    ),
    "export": Program(
        module="export.__main__",
        summary="write another library's format: CKPT=FILE TO=transformers|... OUT=DIR",
        options={"CKPT": "--ckpt", "TO": "--to", "OUT": "--out"},
        defaults={"CKPT": "runs/pretrain/mini/latest/checkpoints/last.ckpt", "TO": "transformers"},
    ),
    "table": Program(
        module="report.__main__", summary="tabulate results: results/table.md, results/report.html"
    ),
    "sweep": Program(
        module="sweep.__main__",
        summary="search settings: TASK|pretrain [UPSTREAM=NAME] [LOCAL=1] [COUNT=n]",
        positional=("TASK",),
        options={"UPSTREAM": "--upstream", "COUNT": "--count", "LOCAL": "--local"},
        defaults={"TASK": "all"},
    ),
    "tasks": Program(module="superb.tasks", summary="list the tasks"),
    "config": Program(
        module="config",
        summary="show a configuration: [CONFIG=FILE] or [finetune] TASK UPSTREAM [key=value ...]",
        positional=("TASK", "UPSTREAM"),
        options={"CONFIG": "--config"},
    ),
    "corpus": Program(
        module="corpus",
        summary="check an official corpus: NAME=librispeech DIR=DIR [task=asr] [hashes=true]",
        options={"NAME": "--name", "DIR": "--dir"},
    ),
    "fidelity": Program(
        module="report.fidelity",
        summary="compare tasks with their published protocols: [TASK]",
        positional=("TASK",),
    ),
    "submission": Program(
        module="report.submission",
        summary="pack predictions for SUPERB's leaderboard: UPSTREAM [out=FILE]",
        positional=("UPSTREAM",),
        defaults=UPSTREAM,
    ),
    "lexicon": Program(
        module="superb.lexicon", summary="spell words that no lexicon has, for PR: root=LibriSpeech"
    ),
}


def arguments(name: str, words: Sequence[str]) -> list[str]:
    """What a program's `main` takes, from words as they are typed.

    >>> arguments("superb", ["ks", "LR=1e-4,1e-3", "seed=1"])
    ['ks', 'wavlm_mini', '--heads.lr=[1e-4,1e-3]', '--seed=1']

    Raises:
        UsageError: for an upper-case word that the program does not take, or one said twice.
    """
    program = PROGRAMS[name]
    if name == "config" and "finetune" in words:  # make config finetune: which program's
        rest = [word for word in words if word != "finetune"]
        return ["finetune", *_config_arguments(*_sorted_words(name, program, rest))]
    said, keys, others = _sorted_words(name, program, words)
    if name == "config":
        return _config_arguments(said, keys, others)
    values = {**program.defaults, **said}
    first = [values[word] for word in program.positional if word in values]
    options = [
        argument
        for word, option in program.options.items()
        if word in values
        for argument in _option(word, option, values[word])
    ]
    if name == "sweep":  # what stands behind -- is configuration of its trials
        return [*first, *options, *others, "--", *keys]
    return [*first, *options, *others, *keys]


def _sorted_words(
    name: str, program: Program, words: Sequence[str]
) -> tuple[dict[str, str], list[str], list[str]]:
    """Upper-case words with their values, configuration as options, and the rest."""
    said: dict[str, str] = {}
    keys, others, places = [], [], []
    for word in words:
        match = WORD.fullmatch(word)
        if match:
            if match[1] not in program.words:
                takes = ", ".join(program.words) or "no word in upper case"
                raise UsageError(f"{name} takes {takes} (got {match[1]})")
            if match[1] in said:
                raise UsageError(f"{match[1]} must be said once (got {said[match[1]]}, {match[2]})")
            said[match[1]] = match[2]
        elif KEY.match(word):
            keys.append(f"--{word}")
        elif word.startswith("-"):
            others.append(word)
        else:
            places.append(word)
    free = [word for word in program.positional if word not in said]
    if len(places) > len(free):
        takes = " and ".join(program.positional) or "no word without a key"
        raise UsageError(f"{name} takes {takes} (got {' '.join(places)}); keys are key=value")
    return {**said, **dict(zip(free, places, strict=False))}, keys, others


def _option(word: str, option: str, value: str) -> list[str]:
    if not value:
        return []
    if word == "LOCAL":
        return [option]
    if word not in HEADS:
        return [f"{option}={value}"]
    heads = f"--heads.{word.lower()}"
    if "," in value:
        return [f"{heads}=[{value}]"]
    return [f"{heads}=sweep" if value == "sweep" else f"--{option}={value}"]


def _config_arguments(said: Mapping[str, str], keys: list[str], others: list[str]) -> list[str]:
    """Arguments of `config`: of pre-training where no task is named."""
    config = [f"--config={said['CONFIG']}"] if "CONFIG" in said else []
    if "TASK" not in said:
        return [*(config or [f"--config={MINI}"]), *others, *keys]
    return [said["TASK"], said.get("UPSTREAM", UPSTREAM["UPSTREAM"]), *config, *others, *keys]


def usage() -> str:
    """All programs, a line each."""
    lines = [f"  {name:<11} {program.summary}" for name, program in PROGRAMS.items()]
    return "\n".join(
        [
            f"wavlm {version()}: WavLM from raw audio to the SUPERB table",
            "usage: wavlm PROGRAM [WORD=value ...] [key=value ...]; wavlm PROGRAM --help: its keys",
            "",
            *lines,
        ]
    )


def _program_of(argv: Sequence[str]) -> str:
    if argv[0] not in PROGRAMS:
        near = difflib.get_close_matches(argv[0], PROGRAMS, 1, 0.4)
        hint = f"the nearest one is {near[0]}" if near else f"there are {', '.join(PROGRAMS)}"
        raise UsageError(f"no program {argv[0]}: {hint}")
    return argv[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status of the program; 2 for one that is not there."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] in ("-V", "--version"):
        print(version())
        return 0
    try:
        name = _program_of(argv)
        passed = arguments(name, argv[1:])
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if os.getcwd() not in sys.path:  # as `python -m` has it: classes of the user's own are here
        sys.path.append(os.getcwd())
    status: int = import_module(f"wavlm_lightning.recipes.{PROGRAMS[name].module}").main(passed)
    return status


if __name__ == "__main__":
    sys.exit(main())
