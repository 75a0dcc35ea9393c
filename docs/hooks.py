# SPDX-License-Identifier: Apache-2.0
"""Pages that are made from the code and other files while the site is built."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from wavlm_lightning.config_parser import Parser
from wavlm_lightning.config_stack import Stack
from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.recipes.finetune.settings import keys_of as finetune_keys
from wavlm_lightning.recipes.pretrain.settings import keys_of as pretrain_keys
from wavlm_lightning.recipes.run.explain import plain_value, yaml_of
from wavlm_lightning.recipes.superb.settings import keys_of as superb_keys

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "quick_tour.ipynb"
Keys = tuple[Parser, Stack]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie nowhere."""
    pages = {
        "configuration.md": configuration(),
        "quick_tour.md": notebook(json.loads(NOTEBOOK.read_text(encoding="utf-8"))),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "contributing.md": of_root((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def of_root(text: str) -> str:
    """A page of the repository's top, with links as they are in the site."""
    return text.replace("](docs/", "](")


def configuration() -> str:
    """Every key of every program, from the dataclasses that read it."""
    lines = [
        "# Configuration",
        "",
        "Every key of a program, and its value where nothing is said. `make config` shows what",
        "a run would use, and which file or word set each key.",
        "",
        "## Pre-training",
        "",
        "`make pretrain key=value`; values are those of `configs/pretrain/base.yaml`.",
        "",
    ]
    lines += table(pretrain_keys(["--config=configs/pretrain/base.yaml"]))
    superb = superb_keys(["asv", "wavlm_base"])
    lines += [
        "",
        "## SUPERB",
        "",
        "`make superb key=value`; what all tasks have, with the values of `asv`.",
        "",
    ]
    lines += table(superb, without="task.")
    lines += ["", "## Tasks", "", "Section `task`, with the published values.", ""]
    for name in [*task_names(), *task_names("finetuning")]:
        keys = finetune_keys if load_task(name).suite != "superb" else superb_keys
        found = keys([name, "wavlm_mini", "--protocol=published"])
        lines += [f"### {name}", "", *table(found, only="task."), ""]
    trained = next(n for n in task_names() if issubclass(load_task(n), TrainedTask))
    known = {row.key for row in superb[0].explained()}
    lines += [
        "## Fine-tuning",
        "",
        "`make finetune key=value` has these keys beside those of SUPERB.",
        "",
    ]
    lines += table(finetune_keys([trained, "wavlm_mini"]), leave=known)
    return "\n".join(lines) + "\n"


def table(
    keys: Keys, *, only: str = "", without: str = "\0", leave: Collection[str] = ()
) -> list[str]:
    """Rows of a program's keys.

    Args:
        keys: The parser, and what files say.
        only: What keys must begin with.
        without: What they must not begin with.
        leave: Keys that stand elsewhere.
    """
    parser, stack = keys
    rows = [
        row
        for row in parser.explained()
        if row.key.startswith(only) and not row.key.startswith(without) and row.key not in leave
    ]
    said = {key: value for _, key, value in stack.flattened({row.key for row in rows})}
    lines = ["| Key | Value | |", "|---|---|---|"]
    for row in rows:
        value = said.get(row.key, row.default)
        text = value if isinstance(value, str) else yaml_of(plain_value(value))
        shown = "must be set" if row.required and row.key not in said else f"`{text}`"
        about = cell(f"{row.help or ''} *({row.type_name})*")
        lines.append(f"| `{row.key}` | {cell(shown)} | {about} |")
    return lines


def cell(text: str) -> str:
    """Text within a table."""
    return " ".join(text.split()).replace("|", "\\|")


def notebook(content: dict[str, Any]) -> str:
    """An executed notebook as a page: its text, its code, and what that printed and drew."""
    parts = []
    for item in content["cells"]:
        source = "".join(item["source"])
        if item["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in item["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                picture = "".join(data["image/png"]).replace("\n", "")
                parts.append(f"![what the code above draws](data:image/png;base64,{picture})")
            else:
                text = "".join(output.get("text", data.get("text/plain", [])))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
