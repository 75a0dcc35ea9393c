# SPDX-License-Identifier: Apache-2.0
"""What the tests of corpora share: a writer of short recordings."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Record = Callable[..., Path]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Writes half a second of noise below the test's folder; the name decides the format."""

    def write(path: str, num_samples: int = 8_000, *, rate: int = 16_000, seed: int = 0) -> Path:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * np.random.default_rng(seed).standard_normal(num_samples)
        soundfile.write(str(target), noise.astype(np.float32), rate, subtype="PCM_16")
        return target

    return write
