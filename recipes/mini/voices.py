# SPDX-License-Identifier: Apache-2.0
"""Speakers as points in a continuous space of eSpeak NG voice variants, and its phones in ARPAbet.

A voice variant is a small text file: pitch, scale of each formant, roughness, flutter, breath and
spectral tilt. Format: docs/voices.md of eSpeak NG 1.52. Scales are in percent of eSpeak's own
(male) voice; those of the vocal tract follow the mean formant ratios of men, women and children
in Peterson and Barney (1952), table II: about 1 : 1.17 : 1.3.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# Drawn evenly: American most often, so that spelling and sound mostly go together.
_ACCENTS = (
    *("en-us",) * 5,
    *("en", "en-029", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd"),
)
_KINDS = ("man", "woman", "man", "woman", "child")
_RHOTIC = "en-us"  # the accent whose vowel mnemonics hold the r that follows
_TRACT = {"man": 100.0, "woman": 117.0, "child": 128.0}  # formant scale, percent
_PITCH_HZ = {"man": 108.0, "woman": 200.0, "child": 255.0}


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """One synthetic speaker, with the room and microphone that come along."""

    number: int  # the speaker's name in LibriSpeech's layout
    kind: str  # man, woman or child
    sex: str  # M or F
    accent: str  # eSpeak language
    variant: str  # text of the voice variant
    pitch_hz: float  # mean fundamental frequency, roughly
    pace: float  # 1 is the ordinary speed
    level_db: float  # of the speech, RMS re full scale
    floor_db: float  # of the recording's noise floor, RMS re full scale

    @property
    def variant_name(self) -> str:
        return f"spk{self.number}"


def speaker(number: int, *, index: int, seed: int) -> Speaker:
    """The speaker at `index` of a split; men, women and children take turns by it."""
    rng = np.random.default_rng([seed, number])
    kind = _KINDS[index % len(_KINDS)]
    sex = {"man": "M", "woman": "F"}.get(kind) or "MF"[int(rng.integers(2))]
    pitch_hz = float(np.clip(_PITCH_HZ[kind] * _log_normal(rng, 0.14), 70, 330))
    return Speaker(
        number=number,
        kind=kind,
        sex=sex,
        accent=_ACCENTS[int(rng.integers(len(_ACCENTS)))],
        variant=_variant(rng, name=f"spk{number}", kind=kind, sex=sex, pitch_hz=pitch_hz),
        pitch_hz=pitch_hz,
        pace=_log_normal(rng, 0.09),
        level_db=float(rng.uniform(-30, -20)),
        floor_db=float(rng.uniform(-75, -60)),
    )


def _log_normal(rng: np.random.Generator, sigma: float) -> float:
    return math.exp(rng.normal(0, sigma))


def _variant(rng: np.random.Generator, *, name: str, kind: str, sex: str, pitch_hz: float) -> str:
    """Text of a voice variant. Formant 0 is the lowest resonance, 1 to 3 carry the vowels."""
    tract = _TRACT[kind] * _log_normal(rng, 0.04)
    span_hz = 0.45 * pitch_hz * _log_normal(rng, 0.3)
    lines = [
        "language variant",
        f"name {name}",
        f"gender {'female' if sex == 'F' else 'male'}",
        f"pitch {0.8 * pitch_hz:.0f} {0.8 * pitch_hz + span_hz:.0f}",
    ]
    for formant in range(9):
        scale = tract * (1 + rng.normal(0, 0.025 if formant in (1, 2, 3) else 0.04))
        scale = scale if formant else 100 + 0.3 * (tract - 100)
        lines.append(
            f"formant {formant} {scale:.0f} {rng.uniform(70, 125):.0f} {rng.uniform(85, 140):.0f}"
        )
    lines += [
        f"flutter {rng.integers(0, 7)}",
        f"roughness {rng.integers(0, 5)}",
        f"voicing {rng.uniform(70, 115):.0f}",
        f"consonants {rng.uniform(70, 130):.0f} {rng.uniform(70, 130):.0f}",
    ]
    if rng.random() < 0.5:
        lines.append("breath 0 " + " ".join(str(value) for value in rng.integers(0, 6, 7)))
    tilt = rng.uniform(0.7, 1.35)  # above 1: brighter
    gains = [170, *(min(255.0, gain * tilt**n) for n, gain in ((1, 135), (2, 110), (3, 90)))]
    bands = zip((600, 1200, 2000, 3500), gains, strict=True)
    lines.append("tone " + " ".join(f"{hertz} {gain:.0f}" for hertz, gain in bands))
    return "\n".join(lines) + "\n"


def spoken(text: str) -> str:
    """The text for eSpeak, articles as mnemonics: else it runs `of the` and `for a` into one word.

    >>> spoken("The fox of the owl saw a bird.")
    '[[D@2]] fox of [[DI2]] owl saw [[a#]] bird.'
    """
    text = re.sub(r"\b[Tt]he (?=[aeiou])", "[[DI2]] ", text)
    text = re.sub(r"\b[Tt]he\b", "[[D@2]]", text)
    return re.sub(r"\b[Aa]\b", "[[a#]]", text)


# eSpeak's mnemonics (phsource/ph_english* of 1.52) for the words of this corpus. Two phones: a
# glide from one to the other, or a vowel with its r in the accent that says it.
_ARPABET = {
    **{"@": "AH", "@2": "AH", "@-": "AH", "@L": "AH L", "V": "AH", "a#": "AH", "3:": "ER"},
    **{"IR": "ER", "VR": "ER", "I": "IH", "I2": "IH", "I#": "IH", "i": "IY", "i:": "IY"},
    **{"i@": "IY AH", "O": "AO", "A~": "AA N", "x": "K", "l#": "L"},
    **{"E": "EH", "a": "AE", "aa": "AE", "A:": "AA", "0": "AA", "O:": "AO", "O2": "AO"},
    **{"U": "UH", "u:": "UW", "eI": "EY", "aI": "AY", "aI2": "AY", "aI@": "AY AH", "aI3": "AY ER"},
    **{"OI": "OY", "aU": "AW", "oU": "OW", "tS": "CH", "dZ": "JH", "T": "TH", "D": "DH"},
    **{"S": "SH", "Z": "ZH", "N": "NG", "j": "Y", "h": "HH", "r": "R", "r-": "R", "l": "L"},
    **{"w": "W", "w#": "W", "m": "M", "n": "N", "n-": "AH N", "b": "B", "d": "D", "g": "G"},
    **{"p": "P", "t": "T", "t#": "T", "t2": "T", "t[": "T", "?": "T", "k": "K", "f": "F", "v": "V"},
    **{"s": "S", "z": "Z"},
    ";": "",  # the glide out of a high vowel before another: part of that vowel
}
_WITH_R = {"A@": "AA", "e@": "EH", "i@3": "IH", "O@": "AO", "o@": "AO", "U@": "UH"}


def arpabet(mnemonic: str, accent: str) -> list[str]:
    """ARPAbet phones without stress of one eSpeak phone: none, one or two.

    >>> arpabet("'A@", "en-us"), arpabet("'A@", "en"), arpabet(",oU", "en")
    (['AA', 'R'], ['AA'], ['OW'])
    """
    mnemonic = mnemonic.lstrip("',%=")  # stress marks
    rhotic = accent == _RHOTIC
    if mnemonic == "3":
        return ["ER"] if rhotic else ["AH"]
    if mnemonic in _WITH_R:
        return [_WITH_R[mnemonic], "R"] if rhotic else [_WITH_R[mnemonic]]
    if mnemonic not in _ARPABET:
        raise ValueError(f"no ARPAbet phone for eSpeak's {mnemonic!r}: add it to _ARPABET")
    return _ARPABET[mnemonic].split()


def stressed(mnemonics: Iterable[str], accent: str) -> list[str]:
    """ARPAbet phones of a word's eSpeak phones, vowels with 1, 2 or 0 for their stress.

    >>> stressed(["w", "'aI@", "3"], "en-us")
    ['W', 'AY1', 'AH0', 'ER0']
    """
    phones: list[str] = []
    for mnemonic in mnemonics:
        stress = {"'": "1", ",": "2"}.get(mnemonic[:1], "0")
        for phone in arpabet(mnemonic, accent):
            if phone == "R" and phones and phones[-1] == "R":
                continue  # eSpeak marks the r between vowels twice
            vowel = phone[0] in "AEIOU"
            phones.append(phone + stress if vowel else phone)
            stress = "0" if vowel else stress
    return phones
