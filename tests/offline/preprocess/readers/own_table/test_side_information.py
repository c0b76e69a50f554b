"""Establishes that users and items of one's own come with their categories, titles and genres, and each id once."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from data_exchange_center.external_ids import internal_id
from offline.preprocess.readers.recognise import recognise
from offline.preprocess.readers.text import DataError
from testkit.own_table import Content, write_folder

INTEGERS = "userid,itemid,rating,timestamp\n1,7,3,4\n2,8,4,4\n"
TEXTS = "userid,itemid,rating,timestamp\nu1,i7,3,4\n002,i8,4,4\n"


def frames(folder: Path, ratings: str, description: str = "", **files: Content) -> tuple[pd.DataFrame, pd.DataFrame]:
    write_folder(folder, description, ratings_csv=ratings, **files)
    data = recognise(folder, "")
    return data.users(), data.movies()


def test_without_files_there_are_no_rows_and_two_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    users, movies = frames(tmp_path, INTEGERS)
    assert list(users) == ["userid"] and list(movies) == ["itemid", "title", "genres"]
    assert users["userid"].dtype == movies["itemid"].dtype == np.int64 and not len(users) and not len(movies)
    assert [record.getMessage().split("holds ")[1] for record in caplog.records] == [
        "no users' file: nothing is known of users but their ratings.",
        "no items' file: nothing is known of items but their ratings.",
    ]
    users, movies = frames(tmp_path, TEXTS)
    assert list(users) == ["userid", "external_userid"]
    assert list(movies) == ["itemid", "external_itemid", "title", "genres"]


def test_every_other_column_is_a_category(tmp_path: Path) -> None:
    users, movies = frames(
        tmp_path,
        INTEGERS,
        users_csv=",userid,Home country,index,国家\n0,2,DE,a,中国\n1,1,,b,\n",
        items_csv='itemid;genres;title;brand\n8;"剧情|喜剧|剧情| |爱情 ";;X\n7;;"A; B";\n',
    )
    assert users.to_dict("list") == {
        "userid": [2, 1],
        "user_home_country": ["DE", None],
        "user_index_column": ["a", "b"],
        "user_3": ["中国", None],
    }
    assert movies.to_dict("list") == {
        "itemid": [8, 7],
        "title": ["8", "A; B"],
        "genres": [["剧情", "喜剧", "爱情"], []],
        "item_brand": ["X", None],
    }


def test_the_description_names_columns_and_separator(tmp_path: Path) -> None:
    description = """
        [users]
        file = "people.tsv"
        userid = "id"
        categories = ["country"]
        [items]
        itemid = "sku"
        title = "name"
        genres = "tags"
        separator = ", "
        categories = []
    """
    users, movies = frames(
        tmp_path,
        TEXTS,
        description,
        people_tsv="mail\tcountry\tid\na@b\tFR\t002\n",
        items_csv='sku,name,tags,price\ni7,Größe,"a, b",3\n'.encode("latin-1"),
    )
    assert users.to_dict("list") == {
        "userid": [internal_id("002")],
        "external_userid": ["002"],
        "user_country": ["FR"],
    }
    assert movies.to_dict("list") == {
        "itemid": [internal_id("i7")],
        "external_itemid": ["i7"],
        "title": ["Größe"],
        "genres": [["a", "b"]],
    }


def test_types_of_parquet_become_text(tmp_path: Path) -> None:
    columns = {
        "itemid": ["i7", "i8"],
        "genres": [["A", "B", "A", None], None],
        "year": [1999.0, np.nan],
        "price": [3.5, None],
        "rank": pa.array([3, None], pa.int8()),
        "adult": [True, False],
        "kind": pd.Categorical(["x", None]),
        "day": pa.array([0, 1], pa.date32()),
        "__index_level_0__": [0, 1],
    }
    _, movies = frames(tmp_path, TEXTS, items_parquet=columns)
    assert movies.drop(columns=["itemid", "external_itemid"]).to_dict("list") == {
        "title": ["i7", "i8"],
        "genres": [["A", "B"], []],
        "item_year": ["1999", None],
        "item_price": ["3.5", None],
        "item_rank": ["3", None],
        "item_adult": ["true", "false"],
        "item_kind": ["x", None],
        "item_day": ["1970-01-01", "1970-01-02"],
    }


def test_ids_are_of_the_ratings_kind(tmp_path: Path) -> None:
    ratings = "userid,itemid,rating,timestamp\n0,1,3,4\n7,x,3,4\n"
    users, movies = frames(tmp_path, ratings, users_parquet={"userid": [0, 7]}, items_csv="itemid\n1\n2\n")
    assert users["external_userid"].tolist() == ["0", "7"] and users["userid"].tolist() == [*map(internal_id, "07")]
    assert movies["external_itemid"].tolist() == movies["title"].tolist() == ["1", "2"]


@pytest.mark.parametrize("ratings", [INTEGERS, TEXTS])
def test_files_without_rows_give_none(tmp_path: Path, ratings: str) -> None:
    users, movies = frames(tmp_path, ratings, users_csv="userid,a\n", items_csv="itemid,title,genres,a\n")
    assert len(users) == len(movies) == 0 and list(users)[-1] == "user_a" and list(movies)[-1] == "item_a"


@pytest.mark.parametrize(
    ("description", "files", "sentence"),
    [
        ("", {"users_csv": "userid\n1\n2\n1\n"}, "users.csv, line 4: userid '1' stands twice, and each id has one row"),
        ("", {"items_parquet": {"itemid": [1, 1]}}, "items.parquet, row 2: itemid 1 stands twice"),
        ("", {"users_csv": "userid\n1\nx\n"}, "users.csv, line 3: userid 'x' is not a whole number from 1 to"),
        ("", {"users_csv": "userid\n1\n02\n"}, "users.csv, line 3: userid '02' is not a whole number from 1 to"),
        ("", {"users_csv": "userid,a\n1\n"}, "users.csv, line 2: 1 fields where userid,a are 2"),
        ("", {"users_csv": ""}, "users.csv is empty: its first line must name its columns, userid among them"),
        ("", {"users_csv": "id,a\n1,2\n"}, "users.csv has no column 'userid'. Its columns are 'id', 'a': name the ri"),
        ("", {"users_csv": "userid,a,a\n1,2,3\n"}, "users.csv has 2 columns 'a': give each of them a name of its own."),
        ("", {"items_parquet": {"itemid": [1], "a": [[1]]}}, "the column 'a' holds list<element: int64>, which is no"),
        ("[users]\ncategories = ['b']", {"users_csv": "userid,a\n1,2\n"}, "users.csv has no column 'b'."),
        ("[items]\ntitle = 'b'", {"items_csv": "itemid,title\n1,2\n"}, "items.csv has no column 'b'."),
        ("[items]\ngenres = 'b'", {"items_csv": "itemid,title\n1,2\n"}, "items.csv has no column 'b'."),
        ("", {"items_csv": "itemid\n1\n", "items_tsv": "itemid\n1\n"}, "has items.csv and items.tsv: name one in data"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, description: str, files: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        frames(tmp_path, INTEGERS, description, **files)
    assert sentence in str(error.value)
