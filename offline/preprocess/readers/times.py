"""The times of ratings as whole seconds since 1970, and what happened within one second in its order."""

import logging
import re
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_exchange_center.arrays import Int64Array
from data_exchange_center.columns import Column
from offline.preprocess.readers.text import DataError

logger = logging.getLogger(__name__)

Fault = Callable[[int, str], DataError]  # of a row, counted from 0, and the rule that it breaks

DAY, YEAR = 86_400, 31_536_000  # seconds
NUMBER = r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?"
LEAST_DATE = 1970  # a number from which it may be a year or a date that was written as a number: 2023, 20231114
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
ZONE = r"\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)$"  # behind a time of day: a date ends in -01 as well


def in_seconds(table: pa.Table, file_name: str, fault: Fault) -> pa.Table:
    """The ratings with times in seconds, from whole numbers of seconds or milliseconds.

    The rule: a time is plausible from 1970 to tomorrow, and a file has one unit. Where all times are plausible as
    seconds, they are seconds. Where all but zeros are too late for that and plausible as milliseconds, they are
    milliseconds: the rows are put in their order, and then cut to seconds. Everything else is refused.

    Args:
        table: with int64 TIMESTAMP, none of them negative.
        file_name: for a message.

    Raises:
        DataError: a time is plausible in neither unit, or in another one than most times of the file.
    """
    times: Int64Array = table[Column.TIMESTAMP].to_numpy()
    latest = int(time.time()) + DAY
    late = times > latest
    if not late.any():
        if len(times) and YEAR > times.max() >= LEAST_DATE:
            logger.warning("%s: as seconds since 1970, all times lie in that year: is that their unit?", file_name)
        return table
    beyond = times > latest * 1000
    seconds = ~late & (times > 0)
    if beyond.any():
        wrong, rule = beyond, "is no time from 1970 to tomorrow, neither in seconds nor in milliseconds"
    elif not seconds.any():
        logger.warning("%s: all %d times are in milliseconds; they are converted to seconds.", file_name, len(times))
        return _cut(table, times, 1000)
    elif late.sum() > seconds.sum():
        wrong, rule = seconds, "is in seconds, where most times of the file are in milliseconds"
    else:
        wrong, rule = late, "is later than tomorrow in seconds, the unit of most times of the file"
    row = int(wrong.argmax())
    raise fault(row, f"the time {times[row]} {rule}")


def with_seconds(table: pa.Table, file_name: str, fault: Fault) -> pa.Table:
    """The ratings with TIMESTAMP int64 in seconds, from whatever a file may hold.

    Whole numbers are seconds or milliseconds, see `in_seconds`; text is that, or ISO 8601 dates or date-times; dates
    and date-times may be Arrow's own. What has no zone is UTC. Rows are in file order, or in that of their times where
    these are finer than a second.

    Args:
        table: without nulls in TIMESTAMP.

    Raises:
        DataError: a time is none of these, or does not lie from 1970 to tomorrow.
    """
    column = table[Column.TIMESTAMP]
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _parsed(column, fault)
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _plausible(table, pc.cast(column, pa.int64()).to_numpy(), PER_SECOND[kind.unit], fault)
    if pa.types.is_date(kind):
        days = pc.cast(pc.cast(pc.cast(column, pa.date32()), pa.int32()), pa.int64()).to_numpy()
        return _plausible(table, days * DAY, 1, fault)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise fault(0, f"the times are {kind}, and neither whole numbers nor dates")
    try:
        column = _whole(column)
    except pa.ArrowInvalid as error:
        row = first_refused(column, _whole)
        rule = f"the time {column[row]} is no whole number of seconds or milliseconds since 1970"
        raise fault(row, rule) from error
    negative = column.to_numpy() < 0
    if negative.any():
        row = int(negative.argmax())
        raise fault(row, f"the time {column[row]} is before 1970")
    return in_seconds(_replaced(table, column), file_name, fault)


def first_refused(column: pa.ChunkedArray, convert: Callable[[pa.ChunkedArray], object]) -> int:
    """The row of the first value that `convert` refuses with ArrowInvalid, in a column that it has refused.

    Found by halving: each step converts half of the rows that are left, so that all of them take as long as one pass.
    """
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(column.slice(low, middle - low))
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(column, pa.int64())


def _parsed(texts: pa.ChunkedArray, fault: Fault) -> pa.ChunkedArray:
    """Whole numbers where the first text is one, else timestamps of nanoseconds; one kind for all."""
    is_number = len(texts) == 0 or re.fullmatch(NUMBER, texts[0].as_py()) is not None
    convert = _numbers if is_number else _instants
    try:
        return convert(texts)
    except pa.ArrowInvalid as error:
        row = first_refused(texts, convert)
        rule = (
            "a count of seconds or milliseconds since 1970"
            if is_number
            else "a date or date-time of ISO 8601 up to now"
        )
        one = "" if row == 0 else ", as the first time of the file is"
        raise fault(row, f"the time {texts[row].as_py()!r} is not {rule}{one}") from error


def _numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers, also as pandas writes floats: 1700000000.0."""
    return pc.cast(pc.replace_substring_regex(texts, r"\.0*$", ""), pa.int64())


def _instants(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Timestamps in UTC. Arrow parses texts with a zone and those without as two types."""
    zoned = pc.match_substring_regex(texts, ZONE)
    instants: Int64Array = np.empty(len(texts), np.int64)
    at = zoned.to_numpy()
    instants[at] = pc.cast(pc.cast(texts.filter(zoned), pa.timestamp("ns", "UTC")), pa.int64()).to_numpy()
    instants[~at] = pc.cast(pc.cast(texts.filter(pc.invert(zoned)), pa.timestamp("ns")), pa.int64()).to_numpy()
    return pa.chunked_array([pa.array(instants).cast(pa.timestamp("ns", "UTC"))])


def _plausible(table: pa.Table, times: Int64Array, per_second: int, fault: Fault) -> pa.Table:
    seconds = times // per_second
    wrong = (seconds < 0) | (seconds > int(time.time()) + DAY)
    if wrong.any():
        row = int(wrong.argmax())
        raise fault(row, f"the time {table[Column.TIMESTAMP][row]} is no time from 1970 to tomorrow")
    if (times % per_second).any():
        return _cut(table, times, per_second)
    return _replaced(table, pa.array(seconds))


def _cut(table: pa.Table, times: Int64Array, per_second: int) -> pa.Table:
    """The rows in the order of their times, which are then cut to seconds."""
    order = np.argsort(times, kind="stable")  # what happened at the same time stays in its order
    # Before the rows are taken: as texts, the times of a hundred million of them are more than an array can hold.
    seconds = _replaced(table, pa.array(times // per_second))
    return seconds.take(order)


def _replaced(table: pa.Table, times: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(Column.TIMESTAMP), Column.TIMESTAMP, times)
