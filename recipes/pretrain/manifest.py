# SPDX-License-Identifier: Apache-2.0
"""List a folder of recordings in fairseq's tsv files, train and dev.

wavlm manifest --root=DIR --out=DIR
"""

import sys
from pathlib import Path

from wavlm_lightning.audio import AudioError
from wavlm_lightning.config import ConfigError, one_line
from wavlm_lightning.config_parser import Parser, section_of
from wavlm_lightning.fields import SEEDS
from wavlm_lightning.pretrain.corpora import ReadOptions, build_corpus
from wavlm_lightning.pretrain.manifest import write_manifest
from wavlm_lightning.recipes.run.counter import counter


def build_parser() -> Parser:
    """Options; the same keys as in section `data` of pre-training."""
    parser = Parser(prog="wavlm manifest", description=__doc__)
    parser.add_argument("--root", type=str, required=True, help="folder of recordings")
    parser.add_argument("--out", type=str, required=True, help="folder for train.tsv and dev.tsv")
    parser.add_section(ReadOptions)
    parser.add_number("seed", SEEDS, type=int, default=0)
    return parser


def main(argv: list[str]) -> int:
    """Write the files and say what they hold; 1 after an error."""
    try:
        args = build_parser().parse_args(argv)
        options = section_of(ReadOptions, args)
        show = counter("reading recordings")
        corpus = build_corpus(Path(args.root), options, seed=args.seed, progress=show)
        for split in ("train", "dev"):
            write_manifest(getattr(corpus, split), Path(args.out) / f"{split}.tsv")
    except (ConfigError, AudioError, ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    print(corpus.report())
    print(f"written: {args.out}/train.tsv, {args.out}/dev.tsv")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
