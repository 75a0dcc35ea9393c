# SPDX-License-Identifier: Apache-2.0
"""List a folder of recordings in fairseq's tsv files, train and dev.

python -m recipes.manifest --root=DIR --out=DIR
"""

import sys
from pathlib import Path
from typing import Literal

from recipes.callbacks import counter
from wavlm_lightning.audio import AudioError
from wavlm_lightning.config import ConfigError, Parser, one_line
from wavlm_lightning.pretrain.corpora import ReadOptions, build_corpus
from wavlm_lightning.pretrain.manifest import write_manifest


def build_parser() -> Parser:
    """Options; the same words as in section `data` of pre-training."""
    parser = Parser(prog="recipes.manifest", description=__doc__)
    parser.add_argument("--root", type=str, required=True, help="folder of recordings")
    parser.add_argument("--out", type=str, required=True, help="folder for train.tsv and dev.tsv")
    parser.add_argument("--dev_share", type=float, default=0.01)
    parser.add_argument("--check", type=Literal["full", "header"], default="full")
    parser.add_argument("--bad_files", type=Literal["error", "drop"], default="error")
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(argv: list[str]) -> int:
    """Write the files and say what they hold; 1 after an error."""
    try:
        args = build_parser().parse_args(argv)
        options = ReadOptions(
            check=args.check,
            bad_files=args.bad_files,
            num_workers=args.num_workers,
            progress=counter("reading recordings"),
        )
        corpus = build_corpus(Path(args.root), options, dev_share=args.dev_share, seed=args.seed)
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
