"""Establishes that dataset.toml is read strictly, with a default for every key, and that a fault is a sentence."""

from pathlib import Path

import pytest

from offline.preprocess.readers.own_table.description import Description, read_description
from offline.preprocess.readers.recognise import recognise
from offline.preprocess.readers.text import DataError

FULL = """
positive_above = 7
online_rows = 3

[ratings]
file = "log/events.parquet"
userid = "customer"
itemid = "product"
rating = "stars"
timestamp = "at"

[users]
file = "customers.tsv"
userid = "id"
categories = ["country"]

[items]
file = "products.csv"
itemid = "sku"
title = "name"
genres = "tags"
separator = ", "
categories = []
"""


def read(folder: Path, text: str | bytes) -> Description:
    (folder / "dataset.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_description(folder / "dataset.toml")


@pytest.mark.parametrize("text", ["", "[ratings]\n[users]\n[items]\n", "positive_above = 3\nonline_rows = 10\n"])
def test_everything_has_a_default(tmp_path: Path, text: str) -> None:
    description = read(tmp_path, text)
    assert (description.positive_above, description.online_rows) == (3.0, 10)
    assert description.ratings.names == ("userid", "itemid", "rating", "timestamp")
    assert description.users.categories is None and description.items.separator == "|"


def test_every_key_is_read(tmp_path: Path) -> None:
    described = read(tmp_path, FULL).model_dump()
    assert described.pop("positive_above") == 7.0 and described.pop("online_rows") == 3
    assert described == {
        "ratings": {
            "file": "log/events.parquet",
            "userid": "customer",
            "itemid": "product",
            "rating": "stars",
            "timestamp": "at",
        },
        "users": {"file": "customers.tsv", "userid": "id", "categories": ("country",)},
        "items": {
            "file": "products.csv",
            "itemid": "sku",
            "title": "name",
            "genres": "tags",
            "separator": ", ",
            "categories": (),
        },
    }


def test_what_an_editor_of_windows_writes_is_read(tmp_path: Path) -> None:
    description = read(tmp_path, '\ufeff[ratings]\r\nuserid = "用户"\r\n'.encode())
    assert description.ratings.userid == "用户"
    with pytest.raises(DataError, match=r"dataset.toml is not UTF-8: save it as UTF-8\."):
        read(tmp_path, '[ratings]\nuserid = "Größe"\n'.encode("latin-1"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("online_rows = 0", ": online_rows = 0, which must be greater than or equal to 1: correct it."),
        ("online_rows = 2.5", ": online_rows = 2.5, which must be a whole number: correct it."),
        ("positive_above = '3'", ": positive_above = '3', which must be a number: correct it."),
        ("positive_above = nan", ": positive_above = nan, which must be a finite number: correct it."),
        ("seed = 1", ": seed is no key of it: name one of positive_above, online_rows, ratings, users, items, or take"),
        ("[items]\nid = 'a'", ": [items] id is no key of it: name one of file, itemid, title, genres, separator, cat"),
        ("ratings = 'a.csv'", ": ratings = 'a.csv', which must be a section: correct it."),
        ("[ratings]\nuserid = 1", ": [ratings] userid = 1, which must be a text: correct it."),
        ("[ratings]\nuserid = ''", ": [ratings] userid = '', which must not be empty: correct it."),
        ("[ratings]\nuserid = 'itemid'", "which must name each column once: correct it."),
        ("[ratings]\nfile = '../a.csv'", ": [ratings] file = '../a.csv', which must be a path within the folder of d"),
        ("[ratings]\nfile = '/a.csv'", "which must be a path within the folder of dataset.toml"),
        ("[ratings]\nfile = 'a.json'", ": [ratings] file = 'a.json', which must end in .csv, .tsv or .parquet: corre"),
        ("[users]\ncategories = 'a'", ": [users] categories = 'a', which must be a list of texts: correct it."),
        ("[users]\ncategories = ['a', 'a']", "which must name each column once: correct it."),
        ("[users]\ncategories = ['a', 1]", ": [users] categories = 1, which must be a text: correct it."),
        (
            "[ratings]\nuserid = id",
            ", line 2: no TOML (Invalid value). The line reads 'userid = id': correct it; texts",
        ),
        ('[ratings]\nfile = "a.csv', ", line 2: no TOML (Unterminated string). The line reads"),
    ],
)
def test_a_fault_is_named_with_its_key_or_line(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path}/dataset.toml") and sentence in str(error.value)
    with pytest.raises(DataError):  # the same where the first stage looks
        recognise(tmp_path, "")
