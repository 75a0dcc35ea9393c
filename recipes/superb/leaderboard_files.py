# SPDX-License-Identifier: Apache-2.0
"""Predictions for SUPERB's leaderboard: kept beside others, and packed into one archive."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavlm_lightning.downstream.results import ProbeResult
from wavlm_lightning.files import replacing, write_text
from wavlm_lightning.shipped import command, extras

FOLDER = "predict"  # beside other predictions, and in the archive
HDF5, KEPT = ".h5", ".npy"  # what the leaderboard takes, and what a run keeps of it
HDF5_NAME = "T_hat"
STAMP = (2021, 1, 1, 0, 0, 0)  # of all files in an archive, so that equal ones are equal bytes


def write_submission(predictions: Path, files: Mapping[str, str | NDArray[np.float32]]) -> None:
    """Keep a task's files for the leaderboard in a folder of its predictions."""
    for name, content in files.items():
        path = predictions / FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            write_text(path, content)
        else:
            np.save(path.with_suffix(KEPT), content, allow_pickle=False)


def pack(results: list[ProbeResult], out: Path) -> dict[str, int]:
    """Write the archive; number of files by task.

    Raises:
        FileNotFoundError: naming a run whose predictions are gone.
    """
    counts: dict[str, int] = {}
    with (
        replacing(out) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for result in results:
            counts[result.task] = 0
            for predictions in _folders(result):
                if not predictions.is_dir():
                    raise FileNotFoundError(
                        f"{predictions} of {result.task} is gone: {command()} superb "
                        f"TASK={result.task} UPSTREAM={result.upstream} makes it again"
                    )
                for name, content in _files(predictions / FOLDER):
                    archive.writestr(zipfile.ZipInfo(f"{FOLDER}/{name}", STAMP), content)
                    counts[result.task] += 1
    return counts


def _folders(result: ProbeResult) -> list[Path]:
    """Where the predictions of a result lie, one folder a variant."""
    places = [Path(path).parent.parent for path, _ in result.checkpoints.values() if path]
    return [place / "predictions" for place in places or [Path(result.run)]]


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents as the leaderboard takes them."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder)
        if path.suffix == KEPT:
            yield name.with_suffix(HDF5).as_posix(), _hdf5(np.load(path, allow_pickle=False))
        else:
            yield name.as_posix(), path.read_bytes()


def _hdf5(values: NDArray[np.float32]) -> bytes:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the leaderboard requires diarization as HDF5: {extras('submission')}"
        ) from error
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        content.create_dataset(HDF5_NAME, data=values)
    return file.getvalue()
