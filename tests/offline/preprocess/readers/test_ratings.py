"""Establishes that ratings of each layout are read exactly, in seconds, and that a malformed one is named."""

import gzip
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from data_exchange_center.limits import LARGEST_ID
from offline.preprocess.readers import comma_separated, double_colon, tab_separated
from offline.preprocess.readers.layout import Layout
from offline.preprocess.readers.text import DataError

LAYOUTS = {"::": double_colon.LAYOUT, ",": comma_separated.LAYOUT, "\t": tab_separated.LAYOUT}
RATINGS = "1::1193::5::978300760\n6040::3952::0.5::0\n900001::7::4::978300761\n"
NOW = int(time.time())

each_layout = pytest.mark.parametrize("delimiter", LAYOUTS)


def written(folder: Path, delimiter: str, text: str | bytes) -> Path:
    """The ratings file of a layout; text in `::` is given the layout's delimiter and header."""
    file = folder / LAYOUTS[delimiter].ratings
    if isinstance(text, str):
        header = "userId,movieId,rating,timestamp\n" if delimiter == "," else ""
        text = (header + text.replace("::", delimiter)).encode()
    file.write_bytes(text)
    return file


def read(folder: Path, delimiter: str, text: str | bytes) -> pa.Table:
    return LAYOUTS[delimiter].read_ratings(written(folder, delimiter, text))


def refusal(layout: Layout, file: Path) -> str:
    with pytest.raises(DataError) as error:
        layout.read_ratings(file)
    return str(error.value)


@each_layout
@pytest.mark.parametrize("form", ["plain", "CRLF", "no end", "byte-order mark"])
def test_ratings_are_read_in_file_order(tmp_path: Path, delimiter: str, form: str) -> None:
    file = written(tmp_path, delimiter, RATINGS.rstrip("\n") if form == "no end" else RATINGS)
    content = file.read_bytes()
    content = content.replace(b"\n", b"\r\n") if form == "CRLF" else content
    file.write_bytes(b"\xef\xbb\xbf" + content if form == "byte-order mark" else content)
    table = LAYOUTS[delimiter].read_ratings(file)
    assert table.to_pydict() == {
        "userid": [1, 6040, 900001],
        "itemid": [1193, 3952, 7],
        "rating": [5.0, 0.5, 4.0],
        "timestamp": [978300760, 0, 978300761],
    }
    assert table.schema.types == [pa.int64(), pa.int64(), pa.float32(), pa.int64()]


@each_layout
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1::2::3", "3 fields"),
        ("1::2::3::4::5", "5 fields"),
        ("x::2::3::4", "'x' is no positive integer"),
        ("0::2::3::4", "'0' is no positive integer"),
        ("1::-2::3::4", "'-2' is no positive integer"),
        ("1::2::6::4", "'6' is no number from 0.5 to 5.0"),
        ("1::2::nan::4", "'nan'"),
        ("1::2::3::", "'' is no count of seconds"),
        ("1::2::3::-4", "'-4' is no count of seconds"),
        ("1:7::2::3::4", "'1:7'"),
        ("", "1 fields"),
        ("1;2;3;4", "1 fields"),
        (f"1::{LARGEST_ID + 1}::3::4", f"is beyond {LARGEST_ID}"),
        ("900719925474099001::2::3::4", f"is beyond {LARGEST_ID}"),
        ("99999999999999999999::2::3::4", f"is beyond {LARGEST_ID}"),
        ("1::2::3::\xff", "no count of seconds"),
    ],
)
def test_a_malformed_rating_is_named(tmp_path: Path, delimiter: str, line: str, reason: str) -> None:
    file = written(tmp_path, delimiter, RATINGS + line + "\n" + RATINGS)
    message = refusal(LAYOUTS[delimiter], file)
    number = 5 if delimiter == "," else 4
    if line or delimiter != ",":  # csv counts no field on an empty line
        assert reason in message
    assert message.startswith(f"{file}, line {number}: ") and "correct it or take it out" in message


@each_layout
def test_the_largest_id_is_read_and_zeros_before_it(tmp_path: Path, delimiter: str) -> None:
    table = read(tmp_path, delimiter, f"{LARGEST_ID}::0007::3::4\n")
    assert table["userid"].to_pylist() == [LARGEST_ID] and table["itemid"].to_pylist() == [7]


@each_layout
@pytest.mark.parametrize("text", [b"", "", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path: Path, delimiter: str, text: str | bytes) -> None:
    with pytest.raises(DataError, match=r"is empty|no header|1 fields"):
        read(tmp_path, delimiter, text)


def test_a_header_may_be_quoted_in_another_order_and_name_more(tmp_path: Path) -> None:
    text = '\ufeff"rating","comment","movieId","timestamp","userId"\r\n4.5,"a, b",7,"960000000",3\r\n'
    table = read(tmp_path, ",", text.encode())
    assert table.to_pylist() == [{"userid": 3, "itemid": 7, "rating": 4.5, "timestamp": 960000000}]
    file = written(tmp_path, ",", text.encode() + "4.5,café,0,9,3\r\n".encode("latin-1"))
    message = refusal(comma_separated.LAYOUT, file)
    assert "line 3: movieId '0' is no positive integer" in message


def test_a_missing_header_is_named(tmp_path: Path) -> None:
    message = refusal(comma_separated.LAYOUT, written(tmp_path, ",", b"1,2,3,4\n"))
    assert "ratings.csv, line 1: no header that names userId,movieId,rating,timestamp" in message


# --- time ------------------------------------------------------------------------------------------------------------


@each_layout
def test_milliseconds_become_seconds_in_their_order(
    tmp_path: Path, delimiter: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = read(tmp_path, delimiter, "1::2::3::960001000900\n1::3::4::960001000100\n1::4::5::0\n")
    assert table["timestamp"].to_pylist() == [0, 960001000, 960001000] and table["itemid"].to_pylist() == [4, 3, 2]
    assert "all 3 times are in milliseconds" in caplog.text


def test_seconds_up_to_tomorrow_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert read(tmp_path, "::", f"1::2::3::{NOW + 3600}\n1::3::3::1\n")["timestamp"].to_pylist() == [NOW + 3600, 1]
    assert not caplog.text


@each_layout
@pytest.mark.parametrize(
    ("times", "row", "rule"),
    [
        ([1, 2, NOW + 3 * 86_400], 2, "is later than tomorrow in seconds"),
        ([960001000, 960001000000, 960001001], 1, "is later than tomorrow in seconds"),
        ([960001000000, 960001000, 960001001000], 1, "is in seconds, where most times of the file are in milliseconds"),
        ([1, 960001000000000, 2], 1, "neither in seconds nor in milliseconds"),
        ([(NOW + 3 * 86_400) * 1000], 0, "neither in seconds nor in milliseconds"),
    ],
)
def test_times_that_are_not_plausible_in_one_unit_are_refused(
    tmp_path: Path, delimiter: str, times: list[int], row: int, rule: str
) -> None:
    file = written(tmp_path, delimiter, "".join(f"1::{item}::3::{at}\n" for item, at in enumerate(times, start=1)))
    message = refusal(LAYOUTS[delimiter], file)
    number = row + (2 if delimiter == "," else 1)
    assert f"{file}, line {number}: the time {times[row]} " in message and rule in message
    assert f"{row + 1}{delimiter}3{delimiter}{times[row]}" in message.encode().decode("unicode_escape")


@each_layout
@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda content: content.decode().encode("utf-16"), "byte-order mark of UTF-16"),
        (lambda content: content.decode().encode("utf-16-le"), "holds bytes of 0"),
        (lambda content: content.replace(b"\n", b"\r"), "lines that end in carriage returns alone"),
        (gzip.compress, "is compressed: unpack it"),
    ],
)
def test_a_file_that_is_no_text_is_told_as_such(
    tmp_path: Path, delimiter: str, damage: Callable[[bytes], bytes], rule: str
) -> None:
    file = written(tmp_path, delimiter, RATINGS)
    file.write_bytes(damage(file.read_bytes()))
    assert rule in refusal(LAYOUTS[delimiter], file)
