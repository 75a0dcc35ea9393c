# SPDX-License-Identifier: Apache-2.0
"""Label recordings: features, k-means, the code of every frame.

    wavlm labels --root=DIR --out=DIR --features=mfcc --num_clusters=100
    wavlm labels --root=DIR --out=DIR --features=hidden --teacher=CKPT \\
        --layer=6 ...

Training takes the folder with `labels.folders=[DIR]`. Under torchrun the processes share the work;
a killed run goes on where it was.
"""

import json
import sys
from pathlib import Path

from wavlm_lightning.audio import AudioError
from wavlm_lightning.config import ConfigError, one_line
from wavlm_lightning.config_parser import Parser, section_of
from wavlm_lightning.fields import MOST, SEEDS, Range
from wavlm_lightning.files import write_text
from wavlm_lightning.lengths import RECEPTIVE_FIELD
from wavlm_lightning.pretrain.corpora import ReadOptions, build_corpus
from wavlm_lightning.pretrain.label_report import report_labels
from wavlm_lightning.pretrain.labels import open_labels
from wavlm_lightning.pretrain.manifest import Manifest, drop_short, read_manifest, write_manifest
from wavlm_lightning.recipes.pretrain.label_making import make_labels
from wavlm_lightning.recipes.pretrain.settings import LabelSection
from wavlm_lightning.recipes.run.counter import counter
from wavlm_lightning.recipes.run.processes import Processes, join
from wavlm_lightning.shipped import command


def build_parser() -> Parser:
    """Options: those of section `labels` of pre-training, and where to read and write."""
    parser = Parser(prog="wavlm labels", description=__doc__)
    parser.add_argument("--root", type=str, required=True, help="folder of recordings")
    parser.add_argument("--out", type=str, required=True, help="label folder to write")
    parser.add_section(LabelSection, skip={"folders"})
    parser.add_argument(
        "--quantizer",
        type=str | None,
        default=None,
        help="codebook to take: ours, or scikit-learn's of joblib",
    )
    parser.add_number("min_samples", Range(RECEPTIVE_FIELD, MOST), type=int, default=32_000)
    parser.add_section(ReadOptions)
    parser.add_number("seed", SEEDS, type=int, default=0)
    return parser


def main(argv: list[str]) -> int:
    """Write the label folder and its report; 1 after an error."""
    try:
        args = build_parser().parse_args(argv)
        section = section_of(LabelSection, args)
        for key in ("teacher", "quantizer"):
            if args[key] and not Path(args[key]).exists():
                raise FileNotFoundError(f"{key}={args[key]}: there is nothing")
        processes = join()
        out = Path(args.out)
        if processes.first:
            _manifests(args, out)
        processes.barrier()
        manifests = {s: read_manifest(out / f"{s}.tsv") for s in ("train", "dev")}
        make_labels(
            section,
            manifests,
            out,
            teacher=Path(section.teacher) if section.teacher else None,
            seed=args.seed,
            processes=processes,
            codebook=Path(args.quantizer) if args.quantizer else None,
        )
        if processes.first:
            _report(out, manifests, processes)
        processes.leave()
    except (ConfigError, AudioError, ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _manifests(args, out: Path) -> None:  # type: ignore[no-untyped-def]
    out.mkdir(parents=True, exist_ok=True)
    if (out / "train.tsv").exists():
        if (listed := read_manifest(out / "train.tsv").root) != Path(args.root).resolve():
            raise ValueError(f"{out} labels {listed}: write to another folder, or remove it")
        return
    options = section_of(ReadOptions, args)
    show = counter("reading recordings")
    corpus = build_corpus(Path(args.root), options, seed=args.seed, progress=show)
    print(corpus.report(), flush=True)
    for split in ("dev", "train"):
        filtered = drop_short(getattr(corpus, split), args.min_samples)
        print(filtered.report(split), flush=True)
        write_manifest(filtered.manifest, out / f"{split}.tsv")


def _report(out: Path, manifests: dict[str, Manifest], processes: Processes) -> None:
    reports = {}
    for split, manifest in manifests.items():
        labels = open_labels(out, split, manifest)
        report = report_labels(labels, manifest)
        reports[split] = report.to_dict()
        print(f"{split}: {report.line()}")
    write_text(out / "report.json", json.dumps(reports, indent=2) + "\n")
    print(
        f"codebook {labels.quantizer_sha256[:12]}; "
        f"next: {command()} pretrain labels.folders=[{out}] ..."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
