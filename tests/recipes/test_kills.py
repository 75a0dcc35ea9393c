# SPDX-License-Identifier: Apache-2.0
"""A training that is killed again and again ends as one that was never stopped.

benchmarks/kills.py does this a hundred times; here are a few.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kills import differences
from wavlm_lightning.checkpoint_file import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
COUNT = 2


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the program printed, and the folder of a run that nobody stopped.

    In a process of its own: it forks, which one with threads must not do. Temporary files are on
    another file system where there is one.
    """
    folder = tmp_path_factory.mktemp("kills")
    words = [f"--count={COUNT}", f"--folder={folder}", "--keep"]
    if Path("/dev/shm").is_dir():
        words.append("--temporary=/dev/shm")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode in (0, 1), done.stderr[-2000:]
    return done.stdout, next(folder.glob("kills-*/all/straight/tiny/latest")).resolve()


def test_weights_figures_and_rows_are_those_of_an_undisturbed_run(
    kills: tuple[str, Path],
) -> None:
    said, _ = kills
    assert f"{COUNT} of {COUNT} the same" in said
    assert any(how in said for how in ("writing", "before", "after"))


def _other_row(run: Path) -> None:
    (path,) = run.glob("logs/version_0/metrics.csv")
    *lines, _ = path.read_text().splitlines()
    path.write_text("\n".join(lines) + "\n")


def _other_weights(run: Path) -> None:
    path = run / "iteration1" / "checkpoints" / "last.ckpt"
    content = read_checkpoint(path)
    content["state_dict"]["model.mask_embedding"][0] += 1e-6
    write_checkpoint(path, content)


def _other_counters(run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    write_checkpoint(path, {**read_checkpoint(path), "epoch": 99})


def _other_figures(run: Path) -> None:
    content = json.loads((run / "result.json").read_text())
    content["metrics"]["dev/loss"] += 1e-9
    (run / "result.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (_other_row, "rows of dev"),
        (_other_weights, "iteration1 checkpoint (weights too)"),
        (_other_counters, "checkpoint (weights are equal)"),
        (_other_figures, "metrics"),
    ],
)
def test_a_difference_is_seen(
    kills: tuple[str, Path], change: object, wanted: str, tmp_path: Path
) -> None:
    _, straight = kills
    shutil.copytree(straight, tmp_path / "run")
    assert differences(tmp_path / "run", straight) == []
    change(tmp_path / "run")  # type: ignore[operator]
    assert any(wanted in line for line in differences(tmp_path / "run", straight))
