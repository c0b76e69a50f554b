"""Establishes that each fault of an own table's ratings is one sentence with the file, the line or row, and rule."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offline.preprocess.readers.recognise import recognise
from offline.preprocess.readers.text import DataError

HEADER = "userid,itemid,rating,timestamp\n"


def refusal(folder: Path, description: str = "") -> str:
    """The sentence for the folder's ratings."""
    (folder / "dataset.toml").write_text(description)
    with pytest.raises(DataError) as error:
        recognise(folder, "").ratings()
    return str(error.value)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("1,2,3", "3 fields where userid,itemid,rating,timestamp are 4"),
        ("1,2,3,4,5", "5 fields where"),
        ("", "userid '' is empty"),
        ('1,2,3,"4', "a quote is opened and not closed"),
        ('1,2,3,"4\n5"', "a quote is opened and not closed"),
        ("1,2,3\r,4", "a carriage return stands within the line"),
        (b"1,\xe9,x,4", "rating 'x' is no number. The line reads '1,é,x,4'"),
        (",2,3,4", "userid '' is empty"),
        ("a\tb,2,3,4", "userid 'a\\tb' holds a control character"),
        (f"{'x' * 257},2,3,4", "is longer than 256 characters"),
        ("1,2,,4", "rating '' is no number"),
        ("1,2,nan,4", "rating 'nan' is no number"),
        ("1,2, 3,4", "rating ' 3' is no number"),
        ("1,2,1e39,4", "is no finite number of single precision"),
        ("1,2,3,", "the time '' is not a count of seconds or milliseconds since 1970, as the first time of the file"),
        ("1,2,3,-4", "the time -4 is before 1970"),
        ("1,2,3,2015-03-01", "the time '2015-03-01' is not a count of seconds"),
        ("1,2,3,4e3", "the time '4e3' is not a count of seconds"),
        ("1,2,3,99999999999", "the time 99999999999 is later than tomorrow in seconds"),
        ("1,2,3,960001000000000", "neither in seconds nor in milliseconds"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str | bytes, rule: str) -> None:
    content = line if isinstance(line, bytes) else line.encode()
    (tmp_path / "ratings.csv").write_bytes(HEADER.encode() + b"1,2,3,4\n1,5,3,4\n" + content + b"\n1,2,3,4\n")
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path}/ratings.csv, line 4: ") and rule in message


@pytest.mark.parametrize(
    "time", ["2015-13-01", "2015-02-30", "03/01/2015", "1969-12-31", "2900-01-01", "2200-01-01", "4"]
)
def test_a_date_that_is_none_is_named(tmp_path: Path, time: str) -> None:
    text = HEADER + f"1,1,3,2015-03-01\n1,2,3,2015-03-01T12:00:00Z\n1,3,3,{time}\n" + "1,4,3,2015-03-01\n" * 9
    (tmp_path / "ratings.csv").write_text(text)
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path}/ratings.csv, line 4: the time ") and f"'1,3,3,{time}'" in message


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"userid": [1, None]}, ", row 2: userid is missing: correct it or take it out."),
        ({"rating": [1.0, None]}, ", row 2: rating is missing"),
        ({"timestamp": [1, None]}, ", row 2: timestamp is missing"),
        ({"itemid": pa.array(["a", None]).dictionary_encode()}, ", row 2: itemid is missing"),
        ({"itemid": [b"a", b"b"]}, ": the column 'itemid' holds binary, which is no id"),
        ({"itemid": [True, False]}, ": the column 'itemid' holds bool, which is no id: write integers or texts."),
        ({"userid": [1.0, 1.5]}, ", row 2: userid 1.5 is no whole number"),
        ({"userid": [1.0, np.nan]}, ", row 2: userid nan is no whole number"),
        ({"userid": [1.0, np.inf]}, ", row 2: userid inf is no whole number"),
        ({"userid": [[1], [2]]}, ": the column 'userid' holds list<element: int64> and not one value a row"),
        ({"rating": [1.0, np.nan]}, ", row 2: rating nan is no finite number"),
        ({"rating": [[1.0], [1.0]]}, ": the column 'rating' holds list<element: double> and not one value a row"),
        ({"timestamp": [1.0, 1.5]}, ", row 2: the time 1.5 is no whole number"),
        ({"timestamp": [True, False]}, ", row 1: the times are bool, and neither whole numbers nor dates"),
        ({"timestamp": pa.array([1, -1], pa.timestamp("ms"))}, ", row 2: the time 1969-12-31"),
        ({"timestamp": pa.array([1, 2**33], pa.timestamp("s"))}, ", row 2: the time 2242-03-16"),
        ({"timestamp": [1, 10**17]}, ", row 2: the time 100000000000000000 is no time from 1970 to tomorrow"),
    ],
)
def test_a_malformed_row_of_parquet_is_named(tmp_path: Path, changed: dict[str, Any], rule: str) -> None:
    columns = {"userid": [1, 2], "itemid": [1, 2], "rating": [3.0, 4.0], "timestamp": [1, 2], **changed}
    pq.write_table(pa.table(columns), tmp_path / "ratings.parquet")
    assert refusal(tmp_path).startswith(f"{tmp_path}/ratings.parquet{rule}")


@pytest.mark.parametrize("header", ["user_id,itemid,rating,timestamp", "user_id;itemid;rating;timestamp"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, header: str) -> None:
    (tmp_path / "ratings.csv").write_text(header + "\n")
    remedy = "name the right one in dataset.toml, and put a comma, a semicolon or a tab between two columns"
    there = f"Its columns are 'user_id', 'itemid', 'rating', 'timestamp': {remedy}."
    assert refusal(tmp_path) == f"{tmp_path}/ratings.csv has no column 'userid'. {there}"
    pq.write_table(
        pa.table({name: [1] for name in ("user_id", "itemid", "rating", "timestamp")}), tmp_path / "r.parquet"
    )
    message = refusal(tmp_path, "[ratings]\nfile = 'r.parquet'")
    assert message == f"{tmp_path}/r.parquet has no column 'userid'. {there}"
    (tmp_path / "ratings.csv").write_text(f"{HEADER.strip()},userid\n")
    assert "ratings.csv has 2 columns 'userid': give each of them a name of its own." in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "ratings.csv",
            b"",
            "ratings.csv is empty: its first line must name its columns, userid,itemid,rating,timestamp",
        ),
        ("ratings.csv", b"\xef\xbb\xbf\r\n", "ratings.csv is empty"),
        ("ratings.csv", HEADER.encode(), "ratings.csv has no row"),
        ("ratings.csv", HEADER.strip().encode(), "ratings.csv has no row"),
        ("ratings.csv", HEADER.encode("utf-16"), "byte-order mark of UTF-16: save it as UTF-8."),
        ("ratings.parquet", HEADER.encode(), "ratings.parquet cannot be read as parquet"),
        ("ratings.csv", b"\n" + HEADER.encode(), "ratings.csv begins with a blank line: its first line must name"),
        (
            "ratings.csv",
            HEADER.encode("utf-16-le"),
            "ratings.csv holds bytes of 0, as UTF-16 and files",
        ),
        ("ratings.csv", b"\x1f\x8b\x08", "ratings.csv is compressed: unpack it."),
        ("ratings.csv", HEADER.replace("\n", "\r").encode() + b"1,1,1,1\r", "lines that end in carriage returns alone"),
        ("ratings.csv", b"x" * 200_000, "ratings.csv has no column 'userid'. Its columns are 'xxxx"),
        ("movies.csv", b"", "has none of ratings.csv, ratings.tsv, ratings.parquet, but movies.csv: name the file in"),
    ],
)
def test_a_file_that_holds_no_table_is_refused(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert sentence in refusal(tmp_path)


@pytest.mark.parametrize("rows", ['1,1,1,"1700000000', '1,1,1,1\n1,2,1,"1'])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_quote_that_is_open_at_the_end_of_the_file_is_refused(tmp_path: Path, rows: str, end: str) -> None:
    """There it swallows no line by which it would be found."""
    (tmp_path / "ratings.csv").write_text(HEADER + rows + end)
    assert f"line {rows.count(chr(10)) + 2}: a quote is opened and not closed" in refusal(tmp_path)


def test_a_field_may_be_longer_than_pythons_reader_allows(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(f"{HEADER.strip()},text\n1,1,1,1,{'y' * 200_000}\n1,2,1\n")
    assert "line 3: 3 fields where" in refusal(tmp_path)


def test_parquet_without_rows_is_refused(tmp_path: Path) -> None:
    empty = pa.table({name: pa.array([], pa.int64()) for name in HEADER.strip().split(",")})
    pq.write_table(empty, tmp_path / "ratings.parquet")
    assert refusal(tmp_path).endswith(
        "ratings.parquet has no row: it needs userid, itemid, rating, timestamp of each rating."
    )


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(HEADER + "1,2,3,4\n")
    for section in ("ratings", "users", "items"):
        message = refusal(tmp_path, f"[{section}]\nfile = 'a.csv'")
        assert message == f"{tmp_path}/dataset.toml: [{section}] file = 'a.csv' is not there: correct it."
    message = refusal(tmp_path, "[users]\nuserid = 'a'")
    assert message == f"{tmp_path}/dataset.toml: [users] needs its file: name it, as file = …."
    (tmp_path / "ratings.tsv").touch()
    assert refusal(tmp_path).endswith("has ratings.csv and ratings.tsv: name one in dataset.toml, [ratings] file.")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ratings.csv").write_text(HEADER + "1,2,3,4\n")
    (tmp_path / "dataset.toml").touch()
    data = recognise(tmp_path, "")

    def refuse(file: Path, mode: str) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"ratings.csv cannot be read \(Permission denied\)"):
        data.ratings()


# --- recognition -----------------------------------------------------------------------------------------------------


def test_ratings_without_a_description_are_told_so(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    with pytest.raises(DataError, match="dataset.toml, which describes a table of your own: it has none of these"):
        recognise(folder, "Do this")
    (folder / "ratings.csv").write_text(HEADER + "1,2,3,4\n")
    with pytest.raises(
        DataError, match="for ratings.csv as a table of your own, dataset.toml is missing, and an empty"
    ):
        recognise(folder, "Do this")
    (folder / "dataset.toml").touch()
    with pytest.raises(DataError, match=r"its folder own fits\. Do this\."):
        recognise(tmp_path, "Do this")
    for name in ("ratings.dat", "movies.dat", "movies.csv"):  # a description comes before every other layout
        (folder / name).touch()
    assert recognise(folder, "").files == [folder / "dataset.toml", folder / "ratings.csv"]
