# SPDX-License-Identifier: Apache-2.0
"""Makes the mini corpus and says what is in it: `python -m recipes.mini [--cache DIR]`."""

import argparse
import logging
import os
import sys
from pathlib import Path

from recipes.mini import mini_corpus


def main() -> None:
    """Read the arguments, make the corpus, print counts, hours, hash and path."""
    parser = argparse.ArgumentParser(prog="python -m recipes.mini", description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache/mini"), metavar="DIR")
    parser.add_argument("--num-workers", type=int, default=os.cpu_count() or 2, metavar="N")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    shown = _show if sys.stderr.isatty() else None
    try:
        corpus = mini_corpus(arguments.cache, num_workers=arguments.num_workers, progress=shown)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    for split, count in corpus.utterances.items():
        print(f"{split:<16} {count:>5} utterances {corpus.hours[split]:>7.3f} h")
    print(f"sha256 {corpus.sha256}")
    print(corpus.root)


def _show(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rmini corpus: {done} of {total} utterances", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
