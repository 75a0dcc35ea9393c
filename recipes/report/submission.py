# SPDX-License-Identifier: Apache-2.0
"""Pack predictions for SUPERB's leaderboard.

wavlm submission UPSTREAM [--results=results] [--seed=0] [--out=FILE]

Names and lines of the files are those that s3prl ec8064b5 packs (submit/submit.py). Only results on
official corpora are taken; tasks may be missing, as the leaderboard scores those that it gets.
"""

import sys
from pathlib import Path

from wavlm_lightning.config import ConfigError, one_line
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.downstream.results import read_probe_results
from wavlm_lightning.recipes.superb.leaderboard_files import FOLDER, pack
from wavlm_lightning.shipped import command


def build_parser() -> Parser:
    """Options."""
    parser = Parser(prog="wavlm submission", description=__doc__)
    parser.add_argument("upstream", type=str, help="name in the folder of results")
    parser.add_argument("--results", type=str, default="results", help="folder of results")
    parser.add_argument("--seed", type=int, default=0, help="of the results to take")
    parser.add_argument("--out", type=str | None, default=None, help="archive to write")
    return parser


def main(argv: list[str]) -> int:
    """Write the archive and say what is in it; 1 after an error, which one line explains."""
    try:
        options = build_parser().parse_args(argv)
        folder = Path(options.results)
        out = Path(options.out) if options.out else folder / options.upstream / f"{FOLDER}.zip"
        results = [
            r
            for r in read_probe_results(folder)
            if (r.upstream, r.kind, r.seed) == (options.upstream, "official", options.seed)
        ]
        if not results:
            raise ConfigError(
                f"no results of {options.upstream} with seed {options.seed} on official corpora in "
                f"{folder}: {command()} superb TASK=asv UPSTREAM={options.upstream} "
                "paths.voxceleb1=DIR"
            )
        packed = pack(results, out)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    for task, count in packed.items():
        print(f"{task:<4} {count} files" if count else f"{task:<4} nothing for the leaderboard")
    print(f"written: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
