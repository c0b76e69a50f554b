"""Establishes that ratings of one's own are read exactly, whatever their columns, ids and times: CSV and parquet."""

import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from data_exchange_center.dataset import RatingScale
from data_exchange_center.external_ids import internal_id
from offline.preprocess.readers.own_table import csv_file, values
from offline.preprocess.readers.own_table.source import OwnTable
from offline.preprocess.readers.recognise import recognise
from offline.preprocess.readers.text import DataError
from testkit.own_table import Content, write_folder

HEADER = "userid,itemid,rating,timestamp\n"
ONE, OTHER = "0b7c1f7e-93a4-4a5c-8c5e-6a1f0e1d2c3b", "F47AC10B-58CC-4372-A567-0E02B2C3D479"
NOON = 1_425_211_200  # 2015-03-01T12:00:00Z


def table(folder: Path, description: str = "", **files: Content) -> OwnTable:
    """The folder with these files, see `write_folder`."""
    write_folder(folder, description, **files)
    data = recognise(folder, "")
    assert isinstance(data, OwnTable)
    return data


def rows(folder: Path, text: str | bytes, description: str = "") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = table(folder, description, ratings_csv=text).ratings().to_pydict()
    return found


def columns(**changed: Any) -> dict[str, Any]:
    return {"userid": [3, 1], "itemid": [7, 8], "rating": [4.5, 1.0], "timestamp": [NOON, NOON + 1], **changed}


@pytest.mark.parametrize(
    "text",
    [
        HEADER + f"3,7,4.5,{NOON}\n1,8,1,{NOON + 1}\n",
        "\ufeff" + (HEADER + f"3,7,4.5,{NOON}\n1,8,1,{NOON + 1}").replace("\n", "\r\n"),
        f'"rating";"note";"itemid";"userid";"timestamp"\n4.5;"a; ""b""";7;3;{NOON}\n1;;8;1;"{NOON + 1}"\n',
        f"note\tuserid\titemid\trating\ttimestamp\tnote\n\t3\t7\t4.5\t{NOON}\t\n\t1\t8\t+1.0e0\t{NOON + 1}\t\n",
    ],
)
def test_ratings_are_read_in_file_order(tmp_path: Path, text: str) -> None:
    ratings = table(tmp_path, ratings_csv=text).ratings()
    assert ratings.to_pydict() == columns()
    assert ratings.schema.types == [pa.int64(), pa.int64(), pa.float32(), pa.int64()]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"userid": [3.0, 1.0], "rating": ["4.5", "1"], "timestamp": [str(NOON), str(NOON + 1)]},
        {"userid": pd.Categorical(["3", "1"]), "itemid": pa.array(["7", "8"], pa.large_string())},
        {"rating": pa.array([4.5, 1.0]).cast(pa.decimal128(5, 2)), "itemid": pa.array([7, 8], pa.uint8())},
    ],
)
def test_parquet_is_read_whatever_its_types(tmp_path: Path, changed: dict[str, Any]) -> None:
    ratings = table(tmp_path, ratings_parquet=columns(**changed)).ratings()
    assert ratings.to_pydict() == columns()
    assert ratings.schema.types == [pa.int64(), pa.int64(), pa.float32(), pa.int64()]


def test_columns_and_files_have_any_names(tmp_path: Path) -> None:
    described = (
        '[ratings]\nfile = "log.tsv"\nuserid = "用户"\nitemid = "sku"\nrating = "sku rating"\ntimestamp = "at"\n'
    )
    text = f"at\tsku\tsku rating\t用户\n{NOON}\tA\t9\t1\n"
    data = table(tmp_path, described + "[users]\n[items]\n", log_tsv=text)
    assert data.ratings().to_pylist() == [
        {"userid": 1, "itemid": internal_id("A"), "rating": 9.0, "timestamp": NOON, "external_itemid": "A"}
    ]
    assert [file.name for file in data.files] == ["dataset.toml", "log.tsv"]
    assert (data.users_file, data.movies_file, data.fixed_categories, data.online_rows) == (None, None, None, 10)


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [
        [ONE, OTHER, ONE],
        ["007", "7", "8"],
        ["0", "1", "2"],
        [" 1", "1", "2"],
        ["-1", "1", "1.0"],
        ["9007199254740992", "1", "99999999999999999999"],
        ["ß" * 256, "é", "e\u0301"],
        ['a,"b"', "None", "NA"],
    ],
)
def test_text_ids_come_back_as_they_came(tmp_path: Path, ids: list[str]) -> None:
    quoted = [text.replace('"', '""') for text in ids]
    found = rows(tmp_path, HEADER + "".join(f'"{text}",{at},3,{at}\n' for at, text in enumerate(quoted, start=1)))
    assert found["external_userid"] == ids and found["itemid"] == [1, 2, 3] and "external_itemid" not in found
    assert found["userid"] == [internal_id(text) for text in ids]


@pytest.mark.parametrize("kind", [pa.uuid(), pa.binary(16)])
def test_a_uuid_of_parquet_is_its_text(tmp_path: Path, kind: pa.DataType) -> None:
    ids = pa.array([uuid.UUID(ONE).bytes, uuid.UUID(OTHER).bytes], pa.binary(16)).cast(kind)
    ratings = table(tmp_path, ratings_parquet=columns(itemid=ids)).ratings()
    assert ratings["external_itemid"].to_pylist() == [ONE, OTHER.lower()]
    assert ratings["itemid"].to_pylist() == [internal_id(ONE), internal_id(OTHER.lower())]


def test_integers_of_parquet_that_cannot_be_ids_are_texts(tmp_path: Path) -> None:
    ratings = table(tmp_path, ratings_parquet=columns(userid=[0, 1])).ratings()
    assert ratings["external_userid"].to_pylist() == ["0", "1"]


def test_two_texts_of_one_digest_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "internal_id", lambda text: 5)
    with pytest.raises(DataError, match="ratings.csv: the ids 'a' and 'b' have one digest: rename one of them"):
        rows(tmp_path, HEADER + "a,1,3,1\na,2,3,1\nb,1,3,1\n")


def test_ids_are_the_same_in_whatever_pieces_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = HEADER + "".join(f"{ONE if at % 3 else at},{at % 7 + 1},{at % 5},{at}\n" for at in range(200))
    whole = table(tmp_path, ratings_csv=text).ratings().to_pydict()
    monkeypatch.setattr(csv_file, "BLOCK", 100)
    assert table(tmp_path).ratings().to_pydict() == whole
    assert whole["external_userid"][:5] == ["0", ONE, ONE, "3", ONE] and whole["itemid"][:8] == [*range(1, 8), 1]


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (["2015-03-01T12:00:00Z", "2015-03-01 14:00:01+02:00", "2015-03-01T12:00:02"], [NOON, NOON + 1, NOON + 2]),
        (["2015-03-01", "1970-01-01", "2015-03-01 12:00"], [NOON - 43_200, 0, NOON]),
        (["2015-03-01T12:00:00.9Z", "2015-03-01T12:00:00.100000001Z", "1970-01-01"], [0, NOON, NOON]),
        ([NOON * 1000 + 900, NOON * 1000 + 100, 0], [0, NOON, NOON]),
        ([NOON + 2, NOON, NOON + 1], [NOON + 2, NOON, NOON + 1]),
    ],
)
def test_times_are_seconds_milliseconds_or_iso_8601(tmp_path: Path, times: list[Any], seconds: list[int]) -> None:
    found = rows(tmp_path, HEADER + "".join(f"{at},1,3,{time}\n" for at, time in enumerate(times, start=1)))
    assert found["timestamp"] == seconds
    assert found["userid"] == ([3, 2, 1] if seconds[0] == 0 else [1, 2, 3])  # finer than a second: in their order


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Shanghai"])
def test_parquet_s_own_times_are_read(tmp_path: Path, unit: str, zone: str | None) -> None:
    at = datetime.fromtimestamp(NOON, UTC)
    times = pa.array([at.replace(tzinfo=None)] * 2, pa.timestamp(unit)).cast(pa.timestamp(unit, zone))
    assert table(tmp_path, ratings_parquet=columns(timestamp=times)).ratings()["timestamp"].to_pylist() == [NOON, NOON]
    days = [date(2015, 3, 1), date(1970, 1, 1)]
    ratings = table(tmp_path, ratings_parquet=columns(timestamp=days)).ratings()
    assert ratings["timestamp"].to_pylist() == [NOON - 43_200, 0]


# --- the scale -------------------------------------------------------------------------------------------------------


def test_the_scale_is_that_of_the_ratings(tmp_path: Path) -> None:
    data = table(tmp_path, "positive_above = 0.1\nonline_rows = 2", ratings_csv=HEADER + "1,1,-0.1,1\n1,2,0.7,2\n")
    assert data.scale == RatingScale(lowest=-0.1, highest=0.7, positive_above=0.1) and data.online_rows == 2
    assert data.ratings() is data.ratings()  # read once


@pytest.mark.parametrize("above", [-1, 0.7, 3])
def test_a_scale_without_positives_or_negatives_is_refused(tmp_path: Path, above: float) -> None:
    data = table(tmp_path, f"positive_above = {above}", ratings_csv=HEADER + "1,1,-0.1,1\n1,2,0.7,2\n")
    with pytest.raises(DataError) as error:
        _ = data.scale
    assert str(error.value) == (
        f"{tmp_path}/dataset.toml: positive_above = {above:g} parts no ratings, which run from -0.1 to 0.7 in "
        "ratings.csv: set it to -0.1 or more, and less than 0.7."
    )
    data = table(tmp_path, ratings_csv=HEADER + "1,1,1,1\n1,2,1,2\n")
    with pytest.raises(DataError, match="all ratings are 1, and a ranking is learned from ratings that differ"):
        _ = data.scale


def test_a_text_among_integer_ids_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = rows(tmp_path, HEADER + "1,1,3,1700000000\n2,1,4,1700000000\n3 ,1,5,1700000000\n")
    assert found["external_userid"] == ["1", "2", "3 "]
    assert "ratings.csv: userid is text, since '3 ' in row 3 is not a whole number" in caplog.text


def test_floats_are_ids_only_as_far_as_they_are_exact(tmp_path: Path) -> None:
    exact = pa.array([2**24 - 1, 1], pa.float32())
    assert table(tmp_path, ratings_parquet=columns(userid=exact)).ratings()["userid"].to_pylist() == [2**24 - 1, 1]
    beyond = pa.array([2.0**24, 1.0], pa.float32())
    with pytest.raises(DataError, match=r"row 1: userid 16777216.0 is no whole number up to 16777215"):
        table(tmp_path, ratings_parquet=columns(userid=beyond)).ratings()


def test_newer_kinds_of_text_are_text(tmp_path: Path) -> None:
    views = pa.array([ONE, OTHER], pa.string_view())
    found = table(tmp_path, ratings_parquet=columns(userid=views)).ratings()
    assert found["external_userid"].to_pylist() == [ONE, OTHER]


def test_times_as_pandas_writes_floats_are_whole_numbers(tmp_path: Path) -> None:
    found = rows(tmp_path, HEADER + "1,1,3,1700000000.0\n1,2,3,1700000001.\n1,3,3,1700000002\n")
    assert found["timestamp"] == [1_700_000_000, 1_700_000_001, 1_700_000_002]


@pytest.mark.parametrize("time", ["20231114", "2023"])
def test_a_date_that_is_taken_for_seconds_is_told_of(
    tmp_path: Path, time: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows(tmp_path, HEADER + f"1,1,3,{time}\n1,2,4,{time}\n")
    assert "as seconds since 1970, all times lie in that year: is that their unit?" in caplog.text


def test_ratings_that_are_not_utf8_are_windows_1252(tmp_path: Path) -> None:
    found = rows(tmp_path, (HEADER + "Zoë,1,3,1700000000\nZoé,2,4,1700000000\n").encode("cp1252"))
    assert found["external_userid"] == ["Zoë", "Zoé"] and found["itemid"] == [1, 2]
