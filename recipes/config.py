# SPDX-License-Identifier: Apache-2.0
"""Show the configuration that a pre-training would run with, each key flat, as it is logged.

python -m recipes.config --config=configs/pretrain/mini.yaml [--key=value ...]
"""

import sys

from recipes.pretrain.settings import read_settings
from recipes.run.exit_status import end_with_reader
from wavlm_lightning.config import ConfigError, flat


def main(argv: list[str]) -> int:
    """Print one key a line; 1 if the configuration does not fit."""
    try:
        values = flat(read_settings(argv).values)
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    width = max(map(len, values))
    for key, value in values.items():
        print(f"{key:<{width}}  {value}")
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main(sys.argv[1:]))
