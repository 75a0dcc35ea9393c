# SPDX-License-Identifier: Apache-2.0
"""Write a model in the layout of another library.

wavlm export --ckpt=SOURCE --to=transformers|released|torchaudio|torch_export|onnx|xares --out=DIR
             [--int8=true] [--layer=9] [--results=results] [--push_to_hub=NAME]
"""

import sys
from pathlib import Path
from typing import Any, Literal

from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.files import write_text
from wavlm_lightning.model.checkpoint import (
    load_wavlm,
    save_released,
    save_torchaudio,
    save_transformers,
)
from wavlm_lightning.model.export import save_exported
from wavlm_lightning.model.hub import upload
from wavlm_lightning.model.onnx import INPUT, check_installed, save_onnx
from wavlm_lightning.recipes.export.model_card import model_card
from wavlm_lightning.recipes.export.trained_head import (
    TrainedHead,
    read_trained_head,
    write_tokenizer,
)
from wavlm_lightning.recipes.export.xares import ENCODER, save_xares
from wavlm_lightning.recipes.run.exit_status import exit_status

RELEASED, PROGRAM, ONNX = "WavLM.pt", "wavlm.pt2", "wavlm.onnx"


def build_parser() -> Parser:
    """Options."""
    parser = Parser(prog="wavlm export", description=__doc__)
    parser.add_argument("--ckpt", type=str, required=True, help="what load_wavlm reads")
    parser.add_argument(
        "--to",
        type=Literal["transformers", "released", "torchaudio", "torch_export", "onnx", "xares"],
        default="transformers",
    )
    parser.add_argument("--int8", type=bool, default=False, help="weights of 8 bits, of onnx")
    parser.add_argument(
        "--layer",
        type=int | None,
        default=None,
        help="what X-ARES evaluates; null: the mean of all",
    )
    parser.add_argument("--out", type=str, required=True, help="a folder, new or empty")
    parser.add_argument("--results", type=str, default="results", help="scores for the model card")
    parser.add_argument("--push_to_hub", type=str, default="", help="repository, of transformers")
    return parser


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains."""
    return exit_status(lambda: _main(argv))


def _main(argv: list[str]) -> int:
    args = build_parser().parse_args(argv)
    out = Path(args.out)
    for key, layout in (("push_to_hub", "transformers"), ("int8", "onnx"), ("layer", "xares")):
        if getattr(args, key) not in ("", False, None) and args.to != layout:
            raise ConfigError(f"{key} needs TO={layout} (got TO={args.to})")
    if args.to == "onnx":
        check_installed()
    if not args.out:
        raise ConfigError("out must be a new or empty folder (got nothing). Set OUT=DIR")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"out={out} is not empty: say another folder, or remove it")
    fitted = read_trained_head(Path(args.ckpt)) or TrainedHead(load_wavlm(args.ckpt), None)
    card = model_card(Path(args.ckpt), fitted.model, layout=args.to, results=Path(args.results))
    out.mkdir(parents=True, exist_ok=True)
    if fitted.note:
        alone = fitted.head is None or args.to != "transformers"
        print(f"{fitted.note}{': the encoder alone is written' if alone else ''}")
    said = _write(fitted, args, out)
    print(said)
    if args.to == "onnx":  # its size and what 8 bits changed
        card += f"\n`{ONNX}`: {said.splitlines()[0]}\n"
    write_text(out / "README.md", card)
    print(f"written: {out}/: {', '.join(sorted(path.name for path in out.iterdir()))}")
    if args.push_to_hub:
        print(f"pushed: {upload(out, args.push_to_hub)}")
    return 0


def _write(fitted: TrainedHead, args: Any, out: Path) -> str:
    """The files, and how they are read there."""
    model, head = fitted.model, fitted.head
    match args.to:
        case "transformers":
            save_transformers(model, out, head)
            if fitted.symbols:
                write_tokenizer(out, fitted.symbols)
            name = "WavLMModel" if head is None else head.name
            return f'read it with: transformers.{name}.from_pretrained("{out}")'
        case "released":
            save_released(model, out / RELEASED)
            return f'read it with: torch.load("{out / RELEASED}"): cfg and model, for WavLM(cfg)'
        case "torch_export":
            save_exported(model, out / PROGRAM)
            return (
                f'run it with: torch.export.load("{out / PROGRAM}").module()(waveforms), '
                "(B, T) without padding"
            )
        case "onnx":
            about = save_onnx(model, out / ONNX, int8=args.int8)
            return (
                f"{about}\nrun it with: onnxruntime.InferenceSession"
                f'("{out / ONNX}").run(None, {{"{INPUT}": waveforms}}), (B, T) without padding'
            )
        case "xares":
            what = save_xares(model, out, layer=args.layer)
            return f"the encoder gives {what}\nrun it with: python -m xares.run {out / ENCODER} ..."
    save_torchaudio(model, out)
    return (
        "read it with: torchaudio.models.wavlm_model(**arguments.json)"
        '.load_state_dict(torch.load("wavlm.pt"))'
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
