# SPDX-License-Identifier: Apache-2.0
"""Pronunciations by eSpeak NG: American English words in ARPAbet with stress on vowels."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wavlm_lightning.recipes.mini.speech import WORKER
from wavlm_lightning.recipes.mini.voices import stressed

VOICE = "en-us"
_WORDS_PER_SHARD = 250  # said by one process, whose state moves from word to word


def pronounced(
    words: Iterable[str], *, num_workers: int
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Phones of each different word, in alphabetical order of the words.

    Returns:
        Phones by word; and by word why it has none: eSpeak said nothing, or a foreign phone.

    Raises:
        OSError: if eSpeak NG does not work.
    """
    wanted = sorted(set(words))
    firsts = range(0, len(wanted), _WORDS_PER_SHARD)
    shards = [wanted[first : first + _WORDS_PER_SHARD] for first in firsts]
    with ThreadPoolExecutor(num_workers) as pool:
        said = [phones for shard in pool.map(_say, shards) for phones in shard]
    found, failed = {}, {}
    for word, mnemonics in zip(wanted, said, strict=True):
        try:
            phones = stressed(mnemonics, VOICE)
        except ValueError as error:
            failed[word] = str(error)
            continue
        if phones:
            found[word] = phones
        else:
            failed[word] = "eSpeak said nothing"
    return found, failed


def lexicon_text(pronunciations: dict[str, list[str]]) -> str:
    """Lines of LibriSpeech's lexicon: a word in upper case, a tab, its phones."""
    lines = (f"{word.upper()}\t{' '.join(phones)}" for word, phones in pronunciations.items())
    return "".join(f"{line}\n" for line in lines)


def _say(words: Sequence[str]) -> list[list[str]]:
    """Mnemonics of each, by a process of its own."""
    with tempfile.TemporaryDirectory(prefix="words-") as folder:
        job = Path(folder) / "job.json"
        content = {
            "variants": {},
            "utterances": [],
            "words": [w.lower() for w in words],
            "word_voice": VOICE,
        }
        job.write_text(json.dumps(content), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(WORKER), str(job)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise OSError(f"eSpeak NG failed: {done.stderr.strip().splitlines()[-1]}")
        result = json.loads(job.with_suffix(".out.json").read_text(encoding="utf-8"))
    found: list[list[str]] = result["words"]
    return found
