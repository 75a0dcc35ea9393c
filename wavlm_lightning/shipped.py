# SPDX-License-Identifier: Apache-2.0
"""Where the configurations lie, and how a command is typed: in a checkout, and installed.

A checkout has `downstream/`, `recipes/` and `configs/` at its top, for people who read and edit
them; links in this package lead there. The wheel has the same folders within the package.
"""

import importlib.metadata
from pathlib import Path

PACKAGE = Path(__file__).parent
DISTRIBUTION = "wavlm-lightning"
CONFIGS = Path("configs")  # a user's own, below the folder a command is started in


def config_file(*parts: str) -> Path:
    """A file below `configs/`: the user's own where there is one, else the one that is shipped.

    Args:
        parts: Such as "superb", "asv.yaml".
    """
    own = CONFIGS.joinpath(*parts)
    return own if own.is_file() else PACKAGE / own


def config_names(folder: str) -> set[str]:
    """Names of the YAML files in a folder of `configs/`, the user's own and those shipped."""
    return {
        file.stem
        for configs in (CONFIGS, PACKAGE / CONFIGS)
        for file in (configs / folder).glob("*.yaml")
    }


def named_file(name: str) -> Path:
    """The file that a command names; `configs/...` is found from any folder."""
    path = Path(name)
    if path.is_file() or path.parts[:1] != CONFIGS.parts:
        return path
    return config_file(*path.parts[1:])


def command() -> str:
    """The first word of a command in hints: `make` at the top of a checkout, else `wavlm`."""
    top = PACKAGE.parent
    return "make" if (top / "Makefile").is_file() and Path.cwd() == top else "wavlm"


def extras(name: str) -> str:
    """The command that installs an extra of pyproject.toml."""
    if command() == "make":
        return f"make setup EXTRAS={name}"
    return f"pip install '{DISTRIBUTION}[{name}]'"


def version() -> str:
    """The version of this package; of a tree that was never installed, `unknown`."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
