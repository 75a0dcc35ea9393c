# SPDX-License-Identifier: Apache-2.0
"""Manifest folders: a user's own recordings and a `manifest.tsv` that says what they are.

Tab-separated, one header line, at least the columns `id path split` and those that a task names:
`speaker`, `text`, `label`. `path` is relative to the folder, `split` is train, dev or test, `extra`
is a JSON object or empty. Paths in a list `sources` of `extra` are relative to the folder too.
"""

import json
from typing import Any

from wavlm_lightning.downstream.corpora.corpus import SPLITS, Corpus, Recording
from wavlm_lightning.tables import composed, read_table

NAME = "manifest.tsv"
REQUIRED = ("id", "path", "split")


class Manifest(Corpus):
    """A folder with a manifest."""

    def recordings(self) -> list[Recording]:
        """All rows, in the order of the file.

        Raises:
            FileNotFoundError: if there is no manifest, or recordings are missing.
            ValueError: naming the line and the column.
        """
        path = self.root / NAME
        if not path.is_file():
            raise FileNotFoundError(f"{self}: there is no {NAME} in it")
        rows = read_table(path, columns=REQUIRED)
        if not rows:
            raise ValueError(f"{path} has a header and no row")
        self.hint = f"; the columns of {NAME} are {', '.join(rows[0].values)}"
        first: dict[str, int] = {}  # line of each id
        found = []
        for number, line in rows:
            recording = self._recording(f"{path}, line {number}", line)
            if (other := first.setdefault(recording.id, number)) != number:
                raise ValueError(
                    f"{path}, line {number}: id {recording.id} is there twice, see line {other}"
                )
            found.append(recording)
        files = [p for r in found for p in (r.path, *r.extra.get("sources", ()))]
        if gone := [p for p in files if not p.is_file()]:
            raise FileNotFoundError(
                f"{path}: {len(gone)} recordings are missing, such as {gone[0]}"
            )
        return found

    def _recording(self, where: str, line: dict[str, str]) -> Recording:
        for column in REQUIRED:
            if not line[column].strip():
                raise ValueError(f"{where}: column {column} is empty")
        if line["split"] not in SPLITS:
            raise ValueError(f"{where}: split is {line['split']}, not train, dev or test")
        extra = _extra(where, line.get("extra", ""))
        if isinstance(sources := extra.get("sources"), list):
            extra["sources"] = [self.root / str(path) for path in sources]
        elif sources is not None:
            raise ValueError(f"{where}: sources in extra must be a list of paths (got {sources!r})")
        return Recording(
            id=line["id"],
            path=self.root / line["path"],
            split=line["split"],
            speaker=composed(line.get("speaker", "")),
            text=composed(line.get("text", "")),
            label=composed(line.get("label", "")),
            extra=extra,
            origin=where,
        )


def _extra(where: str, text: str) -> dict[str, Any]:
    """The object that column `extra` holds."""
    try:
        extra = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: column extra is not JSON: {error}") from error
    if not isinstance(extra, dict):
        raise ValueError(f"{where}: column extra is JSON, but no object: {text}")
    return extra
