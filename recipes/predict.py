# SPDX-License-Identifier: Apache-2.0
"""Predict with a trained head: one JSON file for each recording, beside it what is audio or RTTM.

wavlm predict --ckpt=FILE --input=FILE|DIR --out=DIR [--processes=N]
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from wavlm_lightning.audio import AudioError, write_audio
from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.downstream.corpora.librimix import rttm
from wavlm_lightning.downstream.features.windows import WindowConfig
from wavlm_lightning.downstream.metrics.der import Turn
from wavlm_lightning.fields import Range
from wavlm_lightning.files import read_json, write_text
from wavlm_lightning.hashing import file_sha256
from wavlm_lightning.names import safe_name, write_index
from wavlm_lightning.pretrain.walk import Walk
from wavlm_lightning.recipes.run.counter import counter
from wavlm_lightning.recipes.run.exit_status import exit_status
from wavlm_lightning.recipes.run.processes import join, start_all

MODEL = "model.json"  # in the folder of predictions: whose they are
PROGRAM = "wavlm_lightning.recipes.predict"
AT_ONCE = 64  # recordings that are read before they are sorted into batches
UNUSABLE = "unusable.tsv"


def build_parser() -> Parser:
    """The options."""
    parser = Parser(prog="wavlm predict", description=__doc__)
    parser.add_argument("--ckpt", type=str, required=True, help="of superb or finetune")
    parser.add_argument("--input", type=str, required=True, help="a recording, or a folder of them")
    parser.add_argument("--out", type=str, required=True, help="folder of predictions")
    parser.add_argument("--upstream", type=str, default="", help="where it is now, if elsewhere")
    parser.add_argument("--device", type=str, default="", help="cuda or cpu; a GPU if there is one")
    parser.add_section(WindowConfig)
    parser.add_number("processes", Range(1, 1024), type=int, default=1, help="on this machine")
    return parser


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return exit_status(lambda: _predict(argv))


def _predict(argv: list[str]) -> int:
    options = build_parser().parse_args(argv)
    root, names, report = _recordings(Path(options.input))
    out = Path(options.out)
    if Path(options.input).is_dir() and out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(
            f"out={out} must not lie in input={root}: what is written there would be read the next "
            "time"
        )
    digest = _digest(Path(options.ckpt))
    _refuse_others(out, digest)
    status = start_all(PROGRAM, argv, count=options.processes)
    if status is not None:
        return status
    processes = join()
    left = [name for name in names if not _file(out, name).is_file()]
    if processes.first:
        if report:
            print(report)
        print(f"{len(names)} recordings, {len(names) - len(left)} of them done before", flush=True)
    processes.barrier()  # what is written from here on is not counted as done before
    if not left:
        return 0
    # Models take seconds to load: what is wrong with the folders is said by now.
    from wavlm_lightning.downstream.predictor import Predictor

    predictor = Predictor(
        options.ckpt,
        upstream=options.upstream or None,
        device=options.device or None,
        windows=WindowConfig(**{f.name: getattr(options, f.name) for f in fields(WindowConfig)}),
    )
    if processes.first:
        _claim(out, options.ckpt, digest)
    processes.barrier()
    bad: dict[str, str] = {}
    own = left[processes.rank :: processes.world]
    show, done = counter("predicting") if processes.first else lambda *_: None, 0
    for part in _parts(own):
        done += len(part)
        usable = _usable(predictor, root, part, bad)
        for name, heard in zip(usable, predictor.hear(list(usable.values())), strict=True):
            _write(out, name, heard)
        show(done, len(own))
    bad = {name: why for one in processes.from_all(bad) for name, why in one.items()}
    if processes.first:
        _finish(out, names, bad)
        print(
            f"predictions of {predictor.task.name} for {len(left) - len(bad)} recordings in {out}"
        )
    return 0


def _finish(out: Path, names: Sequence[str], bad: dict[str, str]) -> None:
    """Say which file is whose, and which recordings could not be used."""
    write_index(out, names)
    (out / UNUSABLE).unlink(missing_ok=True)  # of the last time
    if bad:
        lines = [f"{name}\t{why}\n" for name, why in sorted(bad.items())]
        write_text(out / UNUSABLE, "".join(lines))
        reasons = "; ".join(list(bad.values())[:3])
        print(f"left out, unusable: {len(bad)} files ({reasons}), see {out / UNUSABLE}", flush=True)


def _recordings(path: Path) -> tuple[Path, list[str], str]:
    """A root, the names of recordings below it, and what to tell of other files there.

    Raises:
        ConfigError: if there is none.
    """
    if path.is_file():
        return path.parent, [path.name], ""
    if not path.is_dir():
        raise ConfigError(f"input={path}: there is no such file or folder")
    walk = Walk(path)
    names = sorted(walk(path))
    if not names:
        raise ConfigError(f"input={path}: there are no recordings in it")
    return path, names, walk.report()


def _digest(checkpoint: Path) -> str:
    """Hash of a checkpoint.

    Raises:
        ConfigError: if there is none.
    """
    if not checkpoint.is_file():
        raise ConfigError(f"ckpt={checkpoint}: there is no such file")
    return file_sha256(checkpoint)


def _refuse_others(out: Path, digest: str) -> None:
    """Keep predictions of different checkpoints apart.

    Raises:
        ConfigError: if the folder has those of another one.
    """
    if (out / MODEL).is_file() and (known := read_json(out / MODEL)["sha256"]) != digest:
        raise ConfigError(
            f"out={out} holds predictions of another checkpoint ({known[:12]}, this one is "
            f"{digest[:12]}). Set out to another folder"
        )


def _claim(out: Path, checkpoint: str, digest: str) -> None:
    """Say whose predictions the folder has from now on."""
    out.mkdir(parents=True, exist_ok=True)
    about = {"checkpoint": checkpoint, "sha256": digest}
    write_text(out / MODEL, json.dumps(about, indent=2) + "\n")


def _file(out: Path, name: str, ending: str = "json") -> Path:
    """File of a recording, under its whole name: a.wav and a.flac are two."""
    return out / f"{safe_name(name)}.{ending}"


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), AT_ONCE):
        yield names[first : first + AT_ONCE]


def _usable(
    predictor: Any, root: Path, names: Sequence[str], bad: dict[str, str]
) -> dict[str, Tensor]:
    """Waveforms of those that can be read and are long enough; of the others, the reason."""
    found = {}
    for name in names:
        try:
            found[name] = predictor.prepared(root / name)
        except AudioError as error:
            bad[name] = str(error)
    return found


def _write(out: Path, name: str, heard: dict[str, Any]) -> None:
    """The files of one recording; the JSON file last, so that where it is all others are."""
    about = {key: value for key, value in heard.items() if key != "audio"}
    files = {}
    for part, waveform in heard.get("audio", {}).items():
        path = _file(out, name, f"{part}.wav")
        write_audio(path, waveform)
        files[part] = path.name
    if "turns" in heard:
        path = _file(out, name, "rttm")
        turns = [Turn(*turn) for turn in heard["turns"]]
        write_text(path, rttm(Path(name).with_suffix("").as_posix(), turns))
        files["rttm"] = path.name
    content = {"recording": name, **about} | ({"files": files} if files else {})
    write_text(_file(out, name), json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
