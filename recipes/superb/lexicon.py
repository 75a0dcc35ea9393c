# SPDX-License-Identifier: Apache-2.0
"""Spell words of LibriSpeech's transcripts that no lexicon has, by eSpeak NG.

wavlm lexicon --root=DIR [--out=FILE]

SUPERB's PR needs phones. LibriSpeech's own lexicon (openslr.org/11, librispeech-lexicon.txt, to be
put beside the splits) lacks some words of the transcripts; without it all are spelled here.
"""

import os
import sys
from pathlib import Path

from wavlm_lightning.config import one_line, read_yaml
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.downstream.corpora import lexicon, librispeech
from wavlm_lightning.files import write_text
from wavlm_lightning.recipes.mini.pronounce import lexicon_text, pronounced
from wavlm_lightning.shipped import config_file

SHOWN = 5  # words in messages


def build_parser() -> Parser:
    """Options."""
    parser = Parser(prog="wavlm lexicon", description=__doc__)
    parser.add_argument("--root", type=str, required=True, help="folder of train-clean-100 etc.")
    parser.add_argument(
        "--out",
        type=str | None,
        default=None,
        help="file to write, in place of lexicon-g2p.txt in that folder",
    )
    parser.add_argument(
        "--num_workers", type=int, default=os.cpu_count() or 2, help="processes of eSpeak NG"
    )
    return parser


def main(argv: list[str]) -> int:
    """Write the file; 1 after an error, which one line explains."""
    try:
        options = build_parser().parse_args(argv)
        root = Path(options.root)
        names: list[str] = read_yaml(config_file("superb", "pr.yaml"))["task"]["lexicons"]
        out = Path(options.out) if options.out else root / names[-1]
        others = [root / name for name in names if (root / name).is_file() and root / name != out]
        words = {w for names in librispeech.SPLITS.values() for n in names for w in _words(root, n)}
        missing = lexicon.without(words, lexicon.read(others))
        found, failed = pronounced(missing, num_workers=options.num_workers)
        write_text(out, lexicon_text(found))
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    known = ", ".join(file.name for file in others) or "no lexicon"
    print(f"{len(words)} different words, {len(words) - len(missing)} of them in {known}")
    print(f"spelled by eSpeak NG: {len(found)}, in {out}")
    if failed:
        some = "; ".join(f"{word}: {why}" for word, why in list(failed.items())[:SHOWN])
        print(f"not spelled, to be added by hand: {len(failed)}: {some}", file=sys.stderr)
    return 0


def _words(root: Path, split: str) -> set[str]:
    return {word for text in librispeech.transcripts(root, split).values() for word in text.split()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
