# SPDX-License-Identifier: Apache-2.0
"""IEMOCAP: five sessions, `Session1/dialog/EmoEvaluation/*.txt`, `Session1/sentences/wav/*/*.wav`.

Layout: Busso et al. 2008, release of 2008.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from downstream.corpora.lengths import Lengths, audio_lengths, usable

SESSIONS = (1, 2, 3, 4, 5)
# Such as: [6.2901 - 8.2357], name of the turn, neu, [2.5000, 2.5000, 2.5000]; separated by tabs.
LINE = re.compile(r"^\[[\d.]+ - [\d.]+\]\s+(?P<turn>\S+)\s+(?P<emotion>\w+)\s+\[.*\]\s*$")


@dataclass(frozen=True)
class Turn:
    """One turn of a dialogue and the emotion that most annotators heard."""

    id: str
    path: Path
    num_samples: int
    session: int
    emotion: str  # IEMOCAP's own: neu, hap, exc, ang, sad, ...


def turns(root: Path, emotions: frozenset[str], *, lengths: Lengths = audio_lengths) -> list[Turn]:
    """Turns with one of these emotions, by session, dialogue and line.

    Raises:
        FileNotFoundError: if a session or recordings are missing.
    """
    found: list[tuple[str, Path, int, str]] = []
    for session in SESSIONS:
        folder = root / f"Session{session}"
        tables = sorted((folder / "dialog" / "EmoEvaluation").glob("Ses*.txt"))
        if not tables:
            have = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())) or "nothing"
            raise FileNotFoundError(
                f"paths.iemocap={root}: no annotations at "
                f"Session{session}/dialog/EmoEvaluation/Ses*.txt; it holds {have}"
            )
        for table in tables:
            for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
                match = LINE.match(line)
                if match and match["emotion"] in emotions:
                    name = match["turn"]
                    path = folder / "sentences" / "wav" / name.rsplit("_", 1)[0] / f"{name}.wav"
                    found.append((name, path, session, match["emotion"]))
    if gone := [path for _, path, _, _ in found if not path.is_file()]:
        raise FileNotFoundError(
            f"paths.iemocap={root}: {len(gone)} of {len(found)} recordings are missing, such as "
            f"{gone[0].relative_to(root)}"
        )
    measured = lengths([path for _, path, _, _ in found])
    return [
        Turn(name, path, length, session, emotion)
        for (name, path, session, emotion), length in usable(found, measured)
    ]
