# SPDX-License-Identifier: Apache-2.0
"""Predict with a trained head: one JSON file for each recording, beside it what is audio or RTTM.

python -m recipes.predict --ckpt=FILE --input=FILE|DIR --out=DIR
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recipes.run.counter import counter
from recipes.run.exit_status import exit_status
from wavlm_lightning.audio import AudioError, write_audio
from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.fields import Range
from wavlm_lightning.files import read_json, replacing, write_text
from wavlm_lightning.hashing import file_sha256
from wavlm_lightning.names import safe_name, write_index
from wavlm_lightning.pretrain.walk import Walk

MODEL = "model.json"  # in the folder of predictions: whose they are
AT_ONCE = 64  # recordings that are read before they are sorted into batches
UNUSABLE = "unusable.tsv"


def build_parser() -> Parser:
    """The options."""
    parser = Parser(prog="recipes.predict", description=__doc__)
    parser.add_argument("--ckpt", type=str, required=True, help="of make superb or make finetune")
    parser.add_argument("--input", type=str, required=True, help="a recording, or a folder of them")
    parser.add_argument("--out", type=str, required=True, help="folder of predictions")
    parser.add_argument("--upstream", type=str, default="", help="where it is now, if elsewhere")
    parser.add_argument("--device", type=str, default="", help="cuda or cpu; a GPU if there is one")
    parser.add_number("seconds_per_batch", Range(0, 10**6, above=True), type=float, default=120.0)
    return parser


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return exit_status(lambda: _predict(argv))


def _predict(argv: list[str]) -> int:
    options = build_parser().parse_args(argv)
    root, names = _recordings(Path(options.input))
    out = Path(options.out)
    _claim(out, Path(options.ckpt))
    left = [name for name in names if not _file(out, name).is_file()]
    print(f"{len(names)} recordings, {len(names) - len(left)} of them done before", flush=True)
    if not left:
        return 0
    # Torch and the upstream take seconds: what is wrong with the folders is said by now.
    from downstream.predictor import Predictor

    predictor = Predictor(
        options.ckpt,
        upstream=options.upstream or None,
        device=options.device or None,
        seconds_per_batch=options.seconds_per_batch,
    )
    bad: dict[str, str] = {}
    show, done = counter("predicting"), 0
    for part in _parts(left):
        done += len(part)
        usable = _usable(root, part, bad)
        for name, heard in zip(usable, predictor([root / n for n in usable]), strict=True):
            _write(out, name, heard)
        show(done, len(left))
    write_index(out, [Path(name).with_suffix("").as_posix() for name in names])
    if bad:
        write_text(out / UNUSABLE, "".join(f"{name}\t{why}\n" for name, why in bad.items()))
        reasons = "; ".join(list(bad.values())[:3])
        print(f"left out, unusable: {len(bad)} files ({reasons}), see {out / UNUSABLE}", flush=True)
    print(f"predictions of {predictor.task.name} for {len(left) - len(bad)} recordings in {out}")
    return 0


def _recordings(path: Path) -> tuple[Path, list[str]]:
    """A root, and the names of recordings below it.

    Raises:
        ConfigError: if there is none.
    """
    if path.is_file():
        return path.parent, [path.name]
    if not path.is_dir():
        raise ConfigError(f"input={path}: there is no such file or folder")
    walk = Walk(path)
    names = sorted(walk(path))
    if report := walk.report():
        print(report, flush=True)
    if not names:
        raise ConfigError(f"input={path}: there are no recordings in it")
    return path, names


def _claim(out: Path, checkpoint: Path) -> None:
    """Keep predictions of different checkpoints apart.

    Raises:
        ConfigError: if the folder has those of another one.
    """
    if not checkpoint.is_file():
        raise ConfigError(f"ckpt={checkpoint}: there is no such file")
    digest = file_sha256(checkpoint)
    if (out / MODEL).is_file():
        if (known := read_json(out / MODEL)["sha256"]) != digest:
            raise ConfigError(
                f"out={out} holds predictions of another checkpoint ({known[:12]}, this one is "
                f"{digest[:12]}). Set out to another folder"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    about = {"checkpoint": str(checkpoint), "sha256": digest}
    write_text(out / MODEL, json.dumps(about, indent=2) + "\n")


def _file(out: Path, name: str) -> Path:
    return out / f"{safe_name(Path(name).with_suffix('').as_posix())}.json"


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), AT_ONCE):
        yield names[first : first + AT_ONCE]


def _usable(root: Path, names: Sequence[str], bad: dict[str, str]) -> list[str]:
    """Those that can be read and are long enough; the others are noted, with the reason."""
    from wavlm_lightning.audio import check_audio
    from wavlm_lightning.lengths import RECEPTIVE_FIELD

    found = []
    for name in names:
        try:
            length = check_audio(root / name)
        except AudioError as error:
            bad[name] = str(error)
            continue
        if length < RECEPTIVE_FIELD:
            bad[name] = f"{root / name}: {length} samples, at least {RECEPTIVE_FIELD} are needed"
        else:
            found.append(name)
    return found


def _write(out: Path, name: str, heard: dict[str, Any]) -> None:
    """The files of one recording; the JSON file last, so that where it is all others are."""
    target = _file(out, name)
    about = {key: value for key, value in heard.items() if key != "audio"}
    files = {}
    for part, waveform in heard.get("audio", {}).items():
        path = target.with_suffix(f".{part}.wav")
        with replacing(path) as temporary:
            sound = temporary.with_suffix(".wav")
            write_audio(sound, waveform)
            sound.rename(temporary)
        files[part] = path.name
    if "turns" in heard:
        lines = [
            f"SPEAKER {target.stem} 1 {start:.3f} {stop - start:.3f} <NA> <NA> {who} <NA> <NA>\n"
            for who, start, stop in heard["turns"]
        ]
        write_text(target.with_suffix(".rttm"), "".join(lines))
        files["rttm"] = target.with_suffix(".rttm").name
    content = {"recording": name, **about} | ({"files": files} if files else {})
    write_text(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
