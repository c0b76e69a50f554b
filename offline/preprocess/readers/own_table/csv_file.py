"""CSV with a header, of any columns: read by Arrow as it lies on the disk where it is UTF-8, else line by line.

Fields may be quoted; lines end at line feeds, and no value holds one, so that the n-th row is line n + 1. The delimiter
is the comma, or the semicolon or tab with which the first line names the required columns; in a .tsv it is the tab.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from offline.preprocess.readers.text import (
    LOOKED_AT,
    DataError,
    Lines,
    check_text,
    count_rule,
    fault,
    fault_of_line,
    read_fields,
    read_lines,
    split_fields,
)

DELIMITERS = (",", ";", "\t")
REPEATED = pa.dictionary(pa.int32(), pa.string())
BLOCK = 16 << 20  # bytes that Arrow parses at once; a line must fit
PIECE = 1 << 24  # bytes that are decoded, and in which line feeds are counted, at once


@dataclass(frozen=True)
class Utf8Csv:
    """A CSV in UTF-8, of a hundred million lines if need be."""

    file: Path
    lines: int  # the header not counted
    names: tuple[str, ...]
    delimiter: str

    def read(self, names: Sequence[str], repeated: Sequence[str] = ()) -> pa.Table:
        """These columns as text, the repeated ones as dictionaries.

        Raises:
            DataError: a line has more or fewer fields, or a quote that is not closed.
        """
        if self.lines == 0:
            return pa.table({name: pa.array([], pa.string()) for name in names})
        rows, reason = 0, "its rows are not its lines"
        try:
            table = pyarrow.csv.read_csv(
                self.file,
                read_options=pyarrow.csv.ReadOptions(column_names=list(self.names), skip_rows=1, block_size=BLOCK),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=self.delimiter, ignore_empty_lines=False, newlines_in_values=True
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()) | dict.fromkeys(repeated, REPEATED),
                    include_columns=list(names),
                ),
            )
            rows = table.num_rows
        except pa.ArrowInvalid as error:
            reason = str(error)
        if rows != self.lines or self._is_open_at_the_end():
            raise self._first_fault(reason)
        return table

    def _is_open_at_the_end(self) -> bool:
        """Whether the last line has a quote that is not closed: elsewhere it would swallow lines."""
        with self.file.open("rb") as content:
            content.seek(max(self.file.stat().st_size - BLOCK, 0))
            last = content.read().rstrip(b"\r\n").rsplit(b"\n", 1)[-1]
        return split_fields(last.decode("utf-8", "backslashreplace"), self.delimiter, quoted=True) is None

    def fault(self, row: int, rule: str) -> DataError:
        """The error of a line."""
        return fault_of_line(self.file, row + 2, rule)

    def _first_fault(self, reason: str) -> DataError:
        """Only after the fast reader has refused the file: finds the line to show."""
        with self.file.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                line = raw.decode("utf-8", "backslashreplace").removesuffix("\n").removesuffix("\r")
                if "\r" in line:
                    return fault(self.file, number, "a carriage return stands within the line", line)
                if rule := count_rule(split_fields(line, self.delimiter, quoted=True), self.names, self.delimiter):
                    return fault(self.file, number, rule, line)
        return DataError(f"{self.file} cannot be read: {reason}.")


@dataclass(frozen=True)
class OtherCsv:
    """A CSV in another encoding, held as lines."""

    lines: Lines  # without the header
    names: tuple[str, ...]
    delimiter: str

    @property
    def file(self) -> Path:
        """Where it lies."""
        return self.lines.file

    def read(self, names: Sequence[str], repeated: Sequence[str] = ()) -> pa.Table:
        """These columns as text."""
        fields = read_fields(self.lines, self.names, self.delimiter, quoted=True)
        return pa.table({name: pa.chunked_array([pa.array(fields[name], pa.string())]) for name in names})

    def fault(self, row: int, rule: str) -> DataError:
        """The error of a line."""
        return self.lines.fault(row, rule)


def open_csv(file: Path, required: Sequence[str]) -> "Utf8Csv | OtherCsv":
    """The CSV, of which no more is known yet than its first line.

    Raises:
        DataError: it is empty or no text.
    """
    count = _count_utf8_lines(file)
    if count is None:
        lines = read_lines(file)
        body = replace(lines, texts=lines.texts[1:], first=2)
        return OtherCsv(body, *_header(file, lines.texts[0], required))
    with file.open("rb") as content:
        check_text(file, content.read(LOOKED_AT))
        content.seek(0)
        first = content.readline()
    return Utf8Csv(
        file, count - 1, *_header(file, first.decode("utf-8-sig", "backslashreplace").rstrip("\r\n"), required)
    )


def _header(file: Path, line: str, required: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The columns' names and the delimiter: the first with which the required columns are found, or most of any."""
    if not line.strip():
        what = "begins with a blank line" if _has_content(file) else "is empty"
        raise DataError(f"{file} {what}: its first line must name its columns, {','.join(required)} among them.")
    found = [
        (tuple(split_fields(line.replace("\r", " "), delimiter, quoted=True) or (line,)), delimiter)
        for delimiter in (DELIMITERS if file.suffix.lower() == ".csv" else "\t")
    ]
    fitting = [header for header in found if set(required) <= set(header[0])]
    return fitting[0] if fitting else max(found, key=lambda header: len(header[0]))


def _has_content(file: Path) -> bool:
    """Whether there is anything but blanks near the file's beginning."""
    with file.open("rb") as content:
        return bool(content.read(LOOKED_AT).removeprefix(codecs.BOM_UTF8).strip())


def _count_utf8_lines(file: Path) -> int | None:
    """Lines, the last one ended or not; None where they are not all UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    count, last = 0, b""
    with file.open("rb") as content:
        try:
            while piece := content.read(PIECE):
                decoder.decode(piece)
                count += piece.count(b"\n")
                last = piece[-1:]
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return None
    return count + (last not in (b"", b"\n"))
