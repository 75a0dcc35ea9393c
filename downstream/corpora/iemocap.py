# SPDX-License-Identifier: Apache-2.0
"""IEMOCAP: five sessions, `Session1/dialog/EmoEvaluation/*.txt`, `Session1/sentences/wav/*/*.wav`.

Layout: Busso et al. 2008, release of 2008.
"""

import re

from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording

SESSIONS = (1, 2, 3, 4, 5)
# Such as: [6.2901 - 8.2357], name of the turn, neu, [2.5000, 2.5000, 2.5000]; separated by tabs.
LINE = re.compile(r"^\[[\d.]+ - [\d.]+\]\s+(?P<turn>\S+)\s+(?P<emotion>\w+)\s+\[.*\]\s*$")


# SUPERB's four classes: excitement counts as happiness.
EMOTIONS = {"neu": "neutral", "hap": "happy", "exc": "happy", "ang": "angry", "sad": "sad"}


class IEMOCAP(Corpus):
    """Turns of dialogues with one of four emotions, which most annotators heard, as label.

    `extra` has the session as `fold`; the speaker is one of two in each session.
    """

    key = "paths.iemocap"
    classes = ("neutral", "happy", "angry", "sad")

    def recordings(self) -> list[Recording]:
        """Turns by session, dialogue and line; all of them train, as folds say what is tested.

        Raises:
            FileNotFoundError: if a session or recordings are missing.
        """
        found = [r for session in SESSIONS for r in self._session(session)]
        if gone := [r.path for r in found if not r.path.is_file()]:
            raise FileNotFoundError(
                f"{self}: {len(gone)} of {len(found)} recordings are missing, such as "
                f"{gone[0].relative_to(self.root)}"
            )
        return found

    def _session(self, session: int) -> list[Recording]:
        folder = self.root / f"Session{session}"
        tables = sorted((folder / "dialog" / "EmoEvaluation").glob("Ses*.txt"))
        if not tables:
            have = ", ".join(sorted(p.name for p in self.root.iterdir() if p.is_dir()))
            raise FileNotFoundError(
                f"{self}: no annotations at Session{session}/dialog/EmoEvaluation/Ses*.txt; it "
                f"holds {have or 'nothing'}"
            )
        found = []
        for table in tables:
            for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
                match = LINE.match(line)
                if match and match["emotion"] in EMOTIONS:
                    name = match["turn"]
                    path = folder / "sentences" / "wav" / name.rsplit("_", 1)[0] / f"{name}.wav"
                    # The last part of a turn's name is F or M and its number.
                    speaker = f"{session}{name.rsplit('_', 1)[1][:1]}"
                    found.append(
                        Recording(
                            name,
                            path,
                            "train",
                            speaker=speaker,
                            label=EMOTIONS[match["emotion"]],
                            extra={"fold": session},
                        )
                    )
        return found
