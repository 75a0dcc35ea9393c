# SPDX-License-Identifier: Apache-2.0
"""Tables: every broken line is named, whatever program saved the file."""

from pathlib import Path

import pytest

from wavlm_lightning.tables import read_csv, read_table

HEADER = b"id\tpath\ttext\n"


def rows(path: Path, content: bytes) -> list[tuple[int, dict[str, str]]]:
    path.write_bytes(content)
    return [tuple(line) for line in read_table(path, columns=("id", "path"))]  # type: ignore[misc]


@pytest.mark.parametrize(
    "content",
    [
        HEADER + b"a\ta.wav\thello\nb\tb.wav\t\n",
        b"\xef\xbb\xbf" + HEADER + b"a\ta.wav\thello\nb\tb.wav\t",
        HEADER.replace(b"\n", b"\r\n") + b"a\ta.wav\thello\r\n\r\nb\tb.wav\t\r\n",
    ],
    ids=["plain", "byte order mark", "windows"],
)
def test_a_table_is_the_same_whoever_saved_it(tmp_path: Path, content: bytes) -> None:
    found = [values for _, values in rows(tmp_path / "manifest.tsv", content)]
    assert found == [
        {"id": "a", "path": "a.wav", "text": "hello"},
        {"id": "b", "path": "b.wav", "text": ""},
    ]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (HEADER + b"a\ta.wav\tone\ttwo\n", r"manifest\.tsv, line 2: 4 fields, the header has 3"),
        (HEADER + b"a\ta.wav\tx\nb\tb.wav\n", r"line 3: 2 fields, the header has 3"),
        (b"id\ttext\na\tx\n", "no column path; it has id, text"),
        (b"", "no column id, path; it has none"),
        (b"id\tpath\tid\na\tb\tc\n", "column id is there twice"),
        (HEADER + b"a\ta.wav\t\xfc\n", r"manifest\.tsv, line 2, is not UTF-8"),
        ((HEADER + b"a\ta.wav\tx\n").decode().encode("utf-16"), "is in UTF-16: save it as UTF-8"),
    ],
)
def test_a_broken_table_is_one_line(tmp_path: Path, content: bytes, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted) as caught:
        rows(tmp_path / "manifest.tsv", content)
    assert "\n" not in str(caught.value)


def test_lines_have_their_numbers_in_the_file(tmp_path: Path) -> None:
    found = rows(tmp_path / "manifest.tsv", HEADER + b"\na\ta.wav\tx\n\n\nb\tb.wav\ty\n")
    assert [number for number, _ in found] == [3, 6]


def test_texts_may_hold_what_other_systems_take_for_ends_of_lines(tmp_path: Path) -> None:
    text = "a\u2028b\x85c\x0bd"
    (found,) = rows(tmp_path / "manifest.tsv", HEADER + f"a\ta.wav\t{text}\n".encode())
    assert found[1]["text"] == text


def test_a_table_with_commas_has_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbf,path,text\r\n0,a.wav,"x, ""y"""\r\n')
    (line,) = read_csv(tmp_path / "a.csv", columns=("path",))
    assert line.values["text"] == 'x, "y"'
    (tmp_path / "a.csv").write_text("path,text\na.wav,x,y\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 2: 3 fields, the header has 2"):
        read_csv(tmp_path / "a.csv")
