"""The ratings of any layout, read by Arrow as whole columns: 25 million rows never pass through Python one by one."""

import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from data_exchange_center.columns import Column
from data_exchange_center.dataset import MOVIELENS_SCALE
from data_exchange_center.limits import LARGEST_ID
from offline.preprocess.readers.text import (
    LOOKED_AT,
    TOO_LARGE,
    DataError,
    check_text,
    checked_header,
    count_rule,
    fault,
    fault_of_line,
    split_fields,
)
from offline.preprocess.readers.times import in_seconds

TYPES = {
    Column.USERID: pa.int64(),
    Column.ITEMID: pa.int64(),
    Column.RATING: pa.float32(),
    Column.TIMESTAMP: pa.int64(),
}


@dataclass(frozen=True)
class RatingsFormat:
    """How a layout writes a rating.

    Args:
        fields: the layout's names of user, item, rating and time, in this order.
        delimiter: between two fields; one character, or the same one repeated.
        has_header: whether it is a CSV whose first line names the fields: in any order, with others, or quoted.
    """

    fields: tuple[str, str, str, str]
    delimiter: str
    has_header: bool = False

    def names_in(self, file: Path) -> tuple[str, ...]:
        """The names of all fields of a line.

        Raises:
            DataError: the header lacks a field.
        """
        if not self.has_header:
            return self.fields
        with file.open("rb") as content:
            line = content.readline().decode("utf-8-sig", "backslashreplace").rstrip("\r\n")
        return checked_header(file, line, self.fields)


def read_ratings(file: Path, layout: RatingsFormat) -> pa.Table:
    """The ratings in file order.

    Args:
        file: ids are positive integers up to LARGEST_ID, ratings 0.5 to 5, times seconds or milliseconds since 1970.

    Returns:
        userid int64, itemid int64, rating float32, timestamp int64 in seconds.

    Raises:
        DataError: there is no rating or a line is malformed: the first one is named with its number and the rule.
    """
    if file.stat().st_size == 0:
        raise _empty(file, layout)
    with file.open("rb") as content:
        check_text(file, content.read(LOOKED_AT))
    names = layout.names_in(file)
    try:
        table = _read_columns(file, layout, names)
    except pa.ArrowInvalid as error:
        raise _first_fault(file, layout, names, str(error)) from error
    if table.num_rows == 0:
        raise _empty(file, layout)
    valid = (
        all(column.null_count == 0 for column in table.columns)
        and all(pc.min(table[name]).as_py() > 0 for name in (Column.USERID, Column.ITEMID))
        and all(pc.max(table[name]).as_py() <= LARGEST_ID for name in (Column.USERID, Column.ITEMID))
        and pc.min(table[Column.TIMESTAMP]).as_py() >= 0
        and pc.all(pc.is_finite(table[Column.RATING])).as_py()
        and pc.min(table[Column.RATING]).as_py() >= MOVIELENS_SCALE.lowest
        and pc.max(table[Column.RATING]).as_py() <= MOVIELENS_SCALE.highest
    )
    if not valid:
        raise _first_fault(file, layout, names, "a value is out of range")
    return in_seconds(table, file.name, lambda row, rule: fault_of_line(file, row + 1 + layout.has_header, rule))


def _read_columns(file: Path, layout: RatingsFormat, names: tuple[str, ...]) -> pa.Table:
    """The four columns as Arrow parses them."""
    # Arrow's parser knows one-character delimiters only. Split at every single colon, `::` gives an empty column
    # between two fields, which must be empty: 1,000,209 lines take a tenth of a second.
    columns: list[str] = []
    for name in names:
        columns += [name, *(f"{name} {place}" for place in range(1, len(layout.delimiter)))]
    columns = columns[: len(columns) - len(layout.delimiter) + 1]
    types = dict(zip(layout.fields, TYPES.values(), strict=True))
    between = {name: pa.null() for name in columns if name not in names}
    table = pyarrow.csv.read_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(column_names=columns, skip_rows=int(layout.has_header)),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=layout.delimiter[0], quote_char='"' if layout.has_header else False, ignore_empty_lines=False
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={**types, **between}, include_columns=[*types, *between], null_values=[""]
        ),
    )
    return table.select(list(types)).rename_columns(list(TYPES))


def _empty(file: Path, layout: RatingsFormat) -> DataError:
    return DataError(f"{file} is empty: it needs lines of {layout.delimiter.join(layout.fields)}.")


def _first_fault(file: Path, layout: RatingsFormat, names: tuple[str, ...], fallback: str) -> DataError:
    """Only after the fast reader has refused the file: finds the line to show."""
    places = [names.index(field) for field in layout.fields]
    with file.open("rb") as lines:  # in binary, a line ends at a line feed alone
        for number, raw in enumerate(lines, start=1):
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8", "backslashreplace").rstrip("\r\n")
            if number == 1 and layout.has_header:
                continue
            parts = split_fields(line, layout.delimiter, quoted=layout.has_header)
            rule = count_rule(parts, names, layout.delimiter)
            if parts is not None and rule is None:
                rule = _value_rule(layout.fields, [parts[place].strip() for place in places])
            if rule:
                return fault(file, number, rule, line)
    return DataError(f"{file} cannot be read: {fallback}.")


def _value_rule(names: tuple[str, ...], texts: list[str]) -> str | None:
    """What is wrong with the values of a line, if anything is."""
    for name, text in zip(names[:2], texts[:2], strict=True):
        if not re.fullmatch(r"0*[1-9][0-9]*", text):
            return f"{name} {text!r} is no positive integer"
        if int(text) > LARGEST_ID:
            return f"{name} {text!r} is {TOO_LARGE}"
    (rating, seconds), (rating_name, time_name) = texts[2:], names[2:]
    is_number = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", rating, re.IGNORECASE)
    if not is_number or not MOVIELENS_SCALE.lowest <= float(rating) <= MOVIELENS_SCALE.highest:
        return f"{rating_name} {rating!r} is no number from {MOVIELENS_SCALE.lowest} to {MOVIELENS_SCALE.highest}"
    if not re.fullmatch(r"[0-9]{1,18}", seconds):
        return f"{time_name} {seconds!r} is no count of seconds or milliseconds since 1970"
    return None
