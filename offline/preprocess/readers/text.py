"""Text files as every layout needs them: lines, encoding, fields, ids, and the sentence for a line that is refused.

Lines end at line feeds, with a carriage return before them or not, and nowhere else: other characters that count as
line ends somewhere (byte 85, U+2028, form feeds) stand in titles. The encoding is told by decoding.
"""

import codecs
import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from data_exchange_center.limits import LARGEST_ID

logger = logging.getLogger(__name__)

COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, zip, bzip2, xz, zstd
LOOKED_AT = 1 << 16  # bytes at the beginning of a file that tell whether it is text
LONGEST_FIELD = 1 << 30  # characters, for Python's csv module, whose own limit a field may well exceed
TOO_LARGE = f"beyond {LARGEST_ID} (2^53 - 1), the largest integer that every JSON reader keeps: number the ids again"


class DataError(Exception):
    """The raw data cannot be had or read; the message names the file, the line, the rule and the remedy."""

    is_expected = True


def fault(file: Path, number: int, rule: str, line: str, remedy: str = "correct it or take it out") -> DataError:
    """The error of a line that is refused.

    Args:
        number: of the line, from 1.
        rule: what is wrong with it.
        line: its text, of which the beginning is shown.
    """
    return DataError(f"{file}, line {number}: {rule}. The line reads {line.strip()[:80]!r}: {remedy}.")


def fault_of_line(file: Path, number: int, rule: str) -> DataError:
    """The same of a line that is not at hand, which is looked up by its number."""
    with file.open("rb") as lines:  # in binary, a line ends at a line feed alone
        line = next(islice(lines, number - 1, None)).decode("utf-8", "backslashreplace")
    return fault(file, number, rule, line)


def checked_header(file: Path, line: str, required: Sequence[str]) -> tuple[str, ...]:
    """The names of all fields of a CSV, from its first line.

    Raises:
        DataError: a required one is not there, or more than once.
    """
    names = tuple(split_fields(line, ",", quoted=True) or ())
    if any(names.count(name) != 1 for name in required):
        header = ",".join(required)
        raise fault(file, 1, f"no header that names {header}", line, f"put {header} before it, or name the columns so")
    return names


@dataclass(frozen=True)
class Lines:
    """The lines of a file without their ends, `first` being the number of the first one in the file."""

    file: Path
    texts: list[str]
    first: int = 1

    def fault(self, row: int, rule: str) -> DataError:
        """The error of a line by its place in `texts`."""
        return fault(self.file, self.first + row, rule, self.texts[row])

    def ids(self, texts: pd.Series, name: str) -> pd.Series:
        """The ids of all lines as int64.

        Args:
            texts: [lines] the field that holds them.
            name: the field's name in the layout.

        Raises:
            DataError: one is no positive integer, is larger than LARGEST_ID, or stands twice.
        """
        digits = texts.str.lstrip("0")
        for wrong, rule in (
            (~digits.str.fullmatch("[1-9][0-9]*").astype(bool), "no positive integer"),
            (digits.str.len() > len(str(LARGEST_ID)), TOO_LARGE),
        ):
            if wrong.any():
                row = int(wrong.to_numpy().argmax())
                raise self.fault(row, f"{name} {texts[row]!r} is {rule}")
        ids = digits.astype("int64")
        for wrong, rule in (
            (ids > LARGEST_ID, f"is {TOO_LARGE}"),
            (ids.duplicated(), "stands twice, and each id has one line"),
        ):
            if wrong.any():
                row = int(wrong.to_numpy().argmax())
                raise self.fault(row, f"{name} {ids[row]} {rule}")
        return ids


def check_text(file: Path, start: bytes) -> None:
    """Checks that a file that begins so is text, in lines that end in line feeds.

    Raises:
        DataError: it is compressed or UTF-16, or its lines end in carriage returns alone.
    """
    if start.startswith(COMPRESSED):
        raise DataError(f"{file} is compressed: unpack it.")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{file} begins with a byte-order mark of UTF-16: save it as UTF-8.")
    if b"\0" in start:
        raise DataError(f"{file} holds bytes of 0, as UTF-16 and files that are no text do: save it as UTF-8.")
    if b"\r" in start.rstrip(b"\r") and b"\n" not in start:
        raise DataError(f"{file} has lines that end in carriage returns alone: save it with line feeds.")


def read_lines(file: Path) -> Lines:
    """All lines of a file. A carriage return within a line becomes a blank.

    Raises:
        DataError: the file is no text, see `check_text`.
    """
    raw = file.read_bytes()
    raw = raw.removeprefix(codecs.BOM_UTF8)
    check_text(file, raw[:LOOKED_AT])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = _decoded_by_line(raw, file)
    lines = text.replace("\r\n", "\n").removesuffix("\r").replace("\r", " ").split("\n")
    return Lines(file, lines[:-1] if lines[-1] == "" else lines)


def _decoded_by_line(raw: bytes, file: Path) -> str:
    """Text of which some lines are not UTF-8: those are Windows-1252, which holds ISO-8859-1's characters."""
    lines, others = [], []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            others.append(number)
            # Windows-1252 gives no character to five bytes, which ISO-8859-1 has as control characters.
            defined = not any(byte in line for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D))
            lines.append(line.decode("cp1252" if defined else "iso-8859-1"))
    logger.info(
        "%s: %d lines are not UTF-8, the first is line %d; they are read as Windows-1252 (ISO-8859-1).",
        file.name,
        len(others),
        others[0],
    )
    return "\n".join(lines)


def split_fields(line: str, delimiter: str, quoted: bool) -> list[str] | None:
    """The fields of one line; None where a quote is opened and not closed."""
    if not quoted:
        return line.split(delimiter)
    csv.field_size_limit(LONGEST_FIELD)
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [""])
    except csv.Error as error:
        return None if "end of data" in str(error) else next(csv.reader([line], delimiter=delimiter))


def count_rule(fields: list[str] | None, names: Sequence[str], delimiter: str) -> str | None:
    """What is wrong with the number of a line's fields, if anything is."""
    if fields is None:
        return "a quote is opened and not closed on the same line"
    if len(fields) != len(names):
        return f"{len(fields)} fields where {delimiter.join(names)} are {len(names)}"
    return None


def read_fields(lines: Lines, names: Sequence[str], delimiter: str, quoted: bool) -> pd.DataFrame:
    """The fields of all lines as text, one column a name.

    Args:
        names: of all fields, in the layout's words.
        delimiter: one character.
        quoted: whether a field in double quotes may hold the delimiter, and a quote as two.

    Raises:
        DataError: a line has more or fewer fields, or a quote that is not closed.
    """
    if not lines.texts:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in names})
    rows: int | None = None
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO("\n".join([*lines.texts, ""]).encode()),
            read_options=pyarrow.csv.ReadOptions(column_names=list(names)),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                ignore_empty_lines=False,
                newlines_in_values=quoted,
            ),
            convert_options=pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in names}),
        )
        rows, reason = table.num_rows, "its rows are not its lines"
    except pa.ArrowInvalid as error:
        reason = str(error)
    # A quote that is not closed has swallowed lines, or stands in the last one.
    if rows != len(lines.texts) or (quoted and split_fields(lines.texts[-1], delimiter, quoted) is None):
        for row, line in enumerate(lines.texts):
            if rule := count_rule(split_fields(line, delimiter, quoted), names, delimiter):
                raise lines.fault(row, rule)
        raise DataError(f"{lines.file} cannot be read: {reason}.")
    frame: pd.DataFrame = table.to_pandas()
    return frame
