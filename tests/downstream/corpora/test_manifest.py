# SPDX-License-Identifier: Apache-2.0
"""Manifest folders: what is read, and what is refused by its line and column."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from wavlm_lightning.audio import AudioError
from wavlm_lightning.downstream.corpora.corpus import Recording, by_split
from wavlm_lightning.downstream.corpora.corpus import read as read_corpus
from wavlm_lightning.downstream.corpora.manifest import Manifest

Record = Callable[..., Path]
HEADER = "id\tpath\tsplit\tspeaker\ttext\textra"
GOOD = "u1\taudio/1.wav\ttrain\tann\tit is\t"


@pytest.fixture
def folder(tmp_path: Path, record: Record) -> Path:
    """Two recordings that manifests may name."""
    record("audio/1.wav", 8_000)
    record("audio/2.wav", 4_000, rate=8_000)
    return tmp_path


def read(folder: Path, *, needs: Sequence[str] = ()) -> list[Recording]:
    return read_corpus(Manifest(folder), needs=needs)


def write(folder: Path, *lines: str) -> Path:
    (folder / "manifest.tsv").write_text("".join(line + "\n" for line in lines))
    return folder


def test_rows_are_read_in_the_order_of_the_file(folder: Path) -> None:
    write(folder, HEADER, "u2\taudio/2.wav\ttest\tbob\tno\t", GOOD)
    assert [(r.id, r.split, r.speaker, r.text) for r in read(folder)] == [
        ("u2", "test", "bob", "no"),
        ("u1", "train", "ann", "it is"),
    ]


def test_paths_are_relative_to_the_folder(folder: Path) -> None:
    assert read(write(folder, HEADER, GOOD))[0].path == folder / "audio/1.wav"


def test_recording_at_another_rate_has_its_length_at_16_khz(folder: Path) -> None:
    write(folder, HEADER, "u2\taudio/2.wav\ttest\tbob\tno\t")
    assert read(folder)[0].num_samples == 8_000


def test_columns_that_are_not_there_are_empty(folder: Path) -> None:
    (row,) = read(write(folder, "split\tid\tpath", "dev\tu1\taudio/1.wav"))
    assert (row.speaker, row.text, row.label, row.extra) == ("", "", "", {})


def test_extra_is_json(folder: Path) -> None:
    (row,) = read(write(folder, HEADER, GOOD + '{"fold": 3}'))
    assert row.extra == {"fold": 3}


def test_quotes_are_part_of_the_text(folder: Path) -> None:
    (row,) = read(write(folder, HEADER, 'u1\taudio/1.wav\ttrain\tann\t"no" he said\t'))
    assert row.text == '"no" he said'


def test_rows_of_a_split_keep_their_order(folder: Path) -> None:
    lines = [f"u{i}\taudio/1.wav\t{split}" for i, split in enumerate(["dev", "train", "dev"])]
    rows = read(write(folder, "id\tpath\tsplit", *lines))
    assert [r.id for r in by_split(rows, ["dev"], Manifest(folder))["dev"]] == ["u0", "u2"]


def test_split_without_a_row_is_named(folder: Path) -> None:
    rows = read(write(folder, HEADER, GOOD))
    with pytest.raises(ValueError, match=r"data\.manifest=.*: no recording is of the split dev"):
        by_split(rows, ["dev"], Manifest(folder))


def test_folder_without_a_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"data\.manifest=.*: there is no manifest\.tsv in it"
    ):
        read(tmp_path)


def test_missing_columns_are_named_beside_those_there_are(folder: Path) -> None:
    write(folder, "id\tpath\tspeaker", "u1\taudio/1.wav\tann")
    with pytest.raises(ValueError, match=r"no column split; it has id, path, speaker$"):
        read(folder, needs=("label",))


def test_empty_manifest_is_said_to_have_no_columns(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no column id, path, split; it has none$"):
        read(write(folder))


@pytest.mark.parametrize("value", ["", "  "])
def test_empty_value_is_named_by_its_line_and_column(folder: Path, value: str) -> None:
    write(folder, HEADER, GOOD, f"u2\taudio/2.wav\ttrain\t{value}\tno\t")
    with pytest.raises(ValueError, match=r"manifest\.tsv, line 3: speaker is empty"):
        read(folder, needs=("speaker",))


def test_row_that_breaks_off_is_named_by_its_line(folder: Path) -> None:
    write(folder, HEADER, GOOD, "u2\taudio/2.wav")
    with pytest.raises(ValueError, match=r"manifest\.tsv, line 3: 2 fields, the header has 6"):
        read(folder)


def test_empty_value_of_a_column_that_is_not_needed_is_read(folder: Path) -> None:
    (row,) = read(write(folder, HEADER, "u1\taudio/1.wav\ttrain\t\tit is\t"), needs=("text",))
    assert row.speaker == ""


def test_unknown_split_is_named_by_its_line(folder: Path) -> None:
    write(folder, HEADER, GOOD, "u2\taudio/2.wav\tvalid\tbob\tno\t")
    with pytest.raises(ValueError, match="line 3: split is valid, not train, dev or test"):
        read(folder)


def test_extra_that_is_not_json_is_named_by_its_line(folder: Path) -> None:
    with pytest.raises(ValueError, match="line 2: column extra is not JSON: "):
        read(write(folder, HEADER, GOOD + "fold=3"))


def test_extra_that_is_no_object_is_named_by_its_line(folder: Path) -> None:
    with pytest.raises(ValueError, match="line 2: column extra"):
        read(write(folder, HEADER, GOOD + "3"))


def test_missing_recordings_are_counted(folder: Path) -> None:
    write(
        folder, HEADER, GOOD, "u2\taudio/3.wav\tdev\tbob\tno\t", "u3\taudio/4.wav\tdev\tbob\tno\t"
    )
    with pytest.raises(
        FileNotFoundError, match=r"2 recordings are missing, such as .*audio/3\.wav"
    ):
        read(folder)


def test_unreadable_recording_is_named(folder: Path) -> None:
    (folder / "audio/1.wav").write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"audio/1\.wav: not readable as audio"):
        read(write(folder, HEADER, GOOD))


def test_field_that_no_recording_has_is_named(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"data\.manifest=.*: none of 1 recordings has a label; .* id, path"
    ):
        read(write(folder, HEADER, GOOD), needs=("label",))


def test_sources_are_relative_to_the_folder_and_must_be_there(folder: Path) -> None:
    (row,) = read(write(folder, HEADER, GOOD + '{"sources": ["audio/1.wav", "audio/2.wav"]}'))
    assert row.extra == {"sources": [folder / "audio/1.wav", folder / "audio/2.wav"]}
    with pytest.raises(FileNotFoundError, match=r"1 recordings are missing, .*audio/9\.wav"):
        read(write(folder, HEADER, GOOD + '{"sources": ["audio/1.wav", "audio/9.wav"]}'))
    with pytest.raises(ValueError, match="line 2: sources in extra must be a list"):
        read(write(folder, HEADER, GOOD + '{"sources": "audio/1.wav"}'))
