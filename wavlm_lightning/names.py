# SPDX-License-Identifier: Apache-2.0
"""Names from data (speakers, folds, utterances) as names of files and as fields of text files.

The name of a recording may hold slashes, blanks, `..`, or three hundred characters. Here it
becomes a plain name that no path and no blank-separated format can misread, and from which the
original can be had back.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote

from wavlm_lightning.files import write_text

MAX_BYTES = 120  # of a file's name; file systems allow 255, suffixes and temporary names need some
INDEX = "names.tsv"


def safe_name(text: str) -> str:
    """A name for one file or folder; equal for equal texts, different for different ones.

    Letters of any script, digits and `_ . + -` stay; the rest, `%` and a first `.` or `-` become
    percent codes. A long name is cut and ends in `~` and a hash; `original_name` needs the index
    for those.

    >>> safe_name("id10270-x_00001"), safe_name("../../x"), safe_name("my call 3")
    ('id10270-x_00001', '%2E.%2F..%2Fx', 'my%20call%203')
    """
    encoded = re.sub(r"[^\w.+-]|^[.-]", _percent, text) or "%"
    if len(encoded.encode()) <= MAX_BYTES:
        return encoded
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    start = encoded.encode()[: MAX_BYTES - 17].decode("utf-8", "ignore")
    return f"{re.sub(r'%.?$', '', start)}~{digest}"


def safe_field(text: str) -> str:
    """A field of a blank-separated line (RTTM, trn, lists of trials): no blanks, never empty.

    >>> safe_field("my call 3"), safe_field("a/b"), safe_field("")
    ('my%20call%203', 'a/b', '%')
    """
    return re.sub(r"[\s%()\x00-\x1f\x7f]", _percent, text) or "%"


def original_name(name: str, index: Mapping[str, str] | None = None) -> str:
    """What `safe_name` or `safe_field` was given.

    Args:
        name: What it gave.
        index: Of names that were cut, as `write_index` keeps them.

    >>> original_name("%2E.%2F..%2Fx")
    '../../x'
    """
    if index and name in index:
        return index[name]
    return "" if name == "%" else unquote(name, errors="surrogateescape")


def write_index(folder: Path, texts: Iterable[str]) -> None:
    """Keep which name stands for which text beside the files, where any differs from its name."""
    rows = [(safe_name(text), text) for text in texts]
    if any(name != text for name, text in rows):
        lines = [f"{name}\t{safe_field(text)}\n" for name, text in rows]
        write_text(folder / INDEX, "name\tid\n" + "".join(lines))


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))
