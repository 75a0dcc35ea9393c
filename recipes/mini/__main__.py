# SPDX-License-Identifier: Apache-2.0
"""Makes the mini corpora and says what is in them: `python -m recipes.mini [--corpus NAME]`."""

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from wavlm_lightning.recipes.mini import NAMES, superb_corpus


def main() -> None:
    """Read the arguments, make the corpora, print counts, hours, hash and path of each."""
    parser = argparse.ArgumentParser(prog="python -m recipes.mini", description=__doc__)
    parser.add_argument(
        "--corpus",
        choices=[*NAMES, "all"],
        default="librispeech",
        help="which one to make (default: librispeech)",
    )
    parser.add_argument("--cache", type=Path, default=Path(".cache/mini"), metavar="DIR")
    parser.add_argument("--num-workers", type=int, default=os.cpu_count() or 2, metavar="N")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    shown = _show if sys.stderr.isatty() else None
    for name in NAMES if arguments.corpus == "all" else [arguments.corpus]:
        try:
            root = superb_corpus(
                name, arguments.cache, num_workers=arguments.num_workers, progress=shown
            )
        except (OSError, ValueError) as error:
            raise SystemExit(f"error: {error}") from None
        facts = json.loads((root.parent / "corpus.json").read_text(encoding="utf-8"))
        for split, count in facts["utterances"].items():
            print(f"{split:<16} {count:>5} utterances {facts['hours'][split]:>7.3f} h")
        print(f"sha256 {facts['sha256']}")
        print(root.parent)


def _show(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rmini corpus: {done} of {total} utterances", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
