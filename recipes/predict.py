# SPDX-License-Identifier: Apache-2.0
"""Predict with a trained head: one JSON file for each recording, beside it what is audio or RTTM.

wavlm predict --ckpt=FILE --input=FILE|DIR --out=DIR [--processes=N]
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from wavlm_lightning.audio import write_audio
from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.downstream.corpora.librimix import rttm
from wavlm_lightning.downstream.metrics.der import Turn
from wavlm_lightning.files import write_text
from wavlm_lightning.hashing import file_sha256
from wavlm_lightning.recipes.run.exit_status import exit_status
from wavlm_lightning.recipes.run.outputs import (
    Outputs,
    add_options,
    join_and_count,
    recordings_in,
    windows_from,
    work_through,
)
from wavlm_lightning.recipes.run.processes import start_all

PROGRAM = "wavlm_lightning.recipes.predict"


def build_parser() -> Parser:
    """The options."""
    parser = Parser(prog="wavlm predict", description=__doc__)
    parser.add_argument("--ckpt", type=str, required=True, help="of superb or finetune")
    parser.add_argument("--upstream", type=str, default="", help="where it is now, if elsewhere")
    add_options(parser)
    return parser


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return exit_status(lambda: _predict(argv))


def _predict(argv: list[str]) -> int:
    options = build_parser().parse_args(argv)
    recordings = recordings_in(Path(options.input))
    about = {"sha256": _digest(Path(options.ckpt))}
    outputs = Outputs(
        Path(options.out), about, ending="json", notes={"checkpoint": str(options.ckpt)}
    )
    outputs.check(recordings, Path(options.input))
    status = start_all(PROGRAM, argv, count=options.processes)
    if status is not None:
        return status
    processes, left = join_and_count(outputs, recordings)
    if not left:
        processes.leave()
        return 0
    # Models take seconds to load: what is wrong with the folders is said by now.
    from wavlm_lightning.downstream.predictor import Predictor

    predictor = Predictor(
        options.ckpt,
        upstream=options.upstream or None,
        device=options.device or None,
        windows=windows_from(vars(options)),
    )
    written = work_through(
        outputs,
        recordings,
        left,
        processes,
        doing="predicting",
        prepare=predictor.prepared,
        compute=predictor.hear,
        write=partial(_write, outputs),
    )
    if processes.first:
        print(f"predictions of {predictor.task.name} for {written} recordings in {outputs.folder}")
    processes.leave()
    return 0


def _digest(checkpoint: Path) -> str:
    """Hash of a checkpoint.

    Raises:
        ConfigError: if there is none.
    """
    if not checkpoint.is_file():
        raise ConfigError(f"ckpt={checkpoint}: there is no such file")
    return file_sha256(checkpoint)


def _write(outputs: Outputs, name: str, heard: dict[str, Any]) -> None:
    """The files of one recording; the JSON file last, so that where it is all others are."""
    about = {key: value for key, value in heard.items() if key != "audio"}
    files = {}
    for part, waveform in heard.get("audio", {}).items():
        path = outputs.file(name, f"{part}.wav")
        write_audio(path, waveform)
        files[part] = path.name
    if "turns" in heard:
        path = outputs.file(name, "rttm")
        turns = [Turn(*turn) for turn in heard["turns"]]
        write_text(path, rttm(Path(name).with_suffix("").as_posix(), turns))
        files["rttm"] = path.name
    content = {"recording": name, **about} | ({"files": files} if files else {})
    write_text(outputs.file(name), json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
