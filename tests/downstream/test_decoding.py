# SPDX-License-Identifier: Apache-2.0
"""Decoding with a lexicon and a language model of a few words, which the tests write."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wavlm_lightning.downstream.text.decoding import LanguageModelConfig, LexiconDecoder
from wavlm_lightning.downstream.text.symbols import Characters

CHARACTERS = Characters()
installed = pytest.mark.skipif(
    importlib.util.find_spec("flashlight") is None, reason="flashlight-text is not installed"
)

# After I comes SEE, after THE comes SEA; ON is likelier than AN, TO than TOO. Base-ten logarithms.
ARPA = """\\data\\
ngram 1=12
ngram 2=4

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.3
-1.0\t</s>
-1.0\tI\t-0.3
-1.0\tTHE\t-0.3
-1.0\tSEE\t-0.3
-1.0\tSEA\t-0.3
-2.0\tAN\t-0.3
-0.5\tON\t-0.3
-2.0\tN\t-0.3
-0.5\tTO\t-0.3
-2.0\tTOO\t-0.3

\\2-grams:
-0.1\tI SEE
-3.0\tI SEA
-0.1\tTHE SEA
-3.0\tTHE SEE

\\end\\
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The language model and its words."""
    (tmp_path / "lm.arpa").write_text(ARPA)
    (tmp_path / "words.txt").write_text("I\nTHE\nSEE\nSEA\nAN\nON\nN\nTO\nTOO\n")
    return {"file": str(tmp_path / "lm.arpa"), "words": str(tmp_path / "words.txt")}


def make_decoder(files: dict[str, str], **changes: Any) -> LexiconDecoder:
    settings = dict(
        beam_size=20, beam_threshold=50, weight=1.0, word_score=0.0, silence_score=0.0, **files
    )
    cache = Path(files["words"]).parent / "cache"
    return LexiconDecoder(LanguageModelConfig(**{**settings, **changes}), CHARACTERS, cache)


def emissions(*frames: str) -> NDArray[np.float16]:
    """(F, U) log-probabilities: each frame's characters share it; "-" is the blank."""
    rows = np.full((len(frames), len(CHARACTERS)), np.log(1e-4), np.float32)
    for row, letters in zip(rows, frames, strict=True):
        for letter in letters:
            row[0 if letter == "-" else CHARACTERS.symbols.index(letter)] = -np.log(len(letters))
    return rows.astype(np.float16)


def spelled(text: str) -> list[str]:
    """A frame for each character with a blank behind it."""
    return [frame for c in text.replace(" ", "|") + "|" for frame in (c, "-")]


@installed
def test_certain_emissions_are_read_as_they_are(files: dict[str, str]) -> None:
    assert make_decoder(files)(emissions(*spelled("THE SEA"))) == "THE SEA"


@installed
@pytest.mark.parametrize(("context", "text"), [("I", "I SEE"), ("THE", "THE SEA")])
def test_language_model_chooses_between_words_that_sound_alike(
    files: dict[str, str], context: str, text: str
) -> None:
    frames = [*spelled(context), "S", "-", "E", "-", "EA", "-", "|"]
    assert make_decoder(files)(emissions(*frames)) == text


@installed
def test_weight_of_the_language_model_outweighs_the_emissions(files: dict[str, str]) -> None:
    heard = emissions("AO", "-", "N", "-", "|")
    heard[0, CHARACTERS.symbols.index("A")] += 1.0  # AN by 1.0 in sound, ON by 3.5 in the model
    decoders = [make_decoder(files, weight=weight) for weight in (0.1, 1.0)]
    assert [decode(heard) for decode in decoders] == ["AN", "ON"]


@installed
def test_blank_stands_between_the_same_letter_twice(files: dict[str, str]) -> None:
    assert make_decoder(files)(emissions("T", "-", "O", "-", "O", "-", "|")) == "TOO"


@installed
def test_word_end_before_the_first_word_is_silence(files: dict[str, str]) -> None:
    heard = emissions("A|", "-", "N", "-", "|")
    heard[0, CHARACTERS.symbols.index("A")] -= 1.0  # N and AN are as likely as words
    assert make_decoder(files)(heard) == "N"


@installed
def test_words_outside_the_list_are_not_read(files: dict[str, str]) -> None:
    assert make_decoder(files)(emissions("S", "-", "E", "-", "EAT", "-", "|")) in ("SEE", "SEA")


@installed
def test_words_are_spelled_in_upper_case_once_if_their_letters_are_known(
    files: dict[str, str],
) -> None:
    Path(files["words"]).write_text("sea -1.5\nSEE\nsee\n\nCAFÉ\nI\n")
    decode = make_decoder(files)
    decode(emissions(*spelled("SEA")))
    (path,) = decode.cache.glob("lexicon-*.txt")
    assert path.read_text() == "I I |\nSEA S E A |\nSEE S E E |\n"


@pytest.mark.parametrize("key", ["file", "words"])
@pytest.mark.parametrize("value", ["/nowhere/of.this", None])
def test_missing_file_is_named_with_its_key(
    files: dict[str, str], key: str, value: str | None
) -> None:
    with pytest.raises(FileNotFoundError, match=rf"task\.lm\.{key}={value}: no such file"):
        make_decoder(files, **{key: value})


@installed
def test_a_file_that_is_no_language_model_is_named(files: dict[str, str]) -> None:
    Path(files["file"]).write_text("nothing of the kind\n")
    with pytest.raises(ValueError, match=r"task\.lm\.file=.*lm\.arpa cannot be read"):
        make_decoder(files)(np.zeros((5, len(CHARACTERS)), np.float16))
