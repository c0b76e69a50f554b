"""Establishes that split and encoding equal slow, obvious ones, and that odd input is counted or refused."""

import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_exchange_center import catalogue
from data_exchange_center.columns import Split
from data_exchange_center.vocabularies import AGES, GENDERS, GENRES, MOVIELENS, OCCUPATIONS, indices
from offline.preprocess import s1_data_split
from offline.preprocess.encoding import encode_categories, item_table, vocabulary_index
from offline.preprocess.splitting import rated_again, split_rows, time_order
from testkit.dataset import FEATURES


def slow_split(rows: int) -> list[int | None]:
    """None for online rows, else the split, by the specification's words in exact fractions."""
    offline = max(rows - 10, 0)
    training = [rn for rn in range(offline) if rn < offline * Fraction(8, 10)]
    fit = [rn for rn in training if rn < len(training) * Fraction(9, 10)]
    return [
        None if rn >= offline else Split.TRAIN if rn in fit else Split.VALID if rn in training else Split.TEST
        for rn in range(rows)
    ]


@given(st.lists(st.integers(1, 140), max_size=5))
def test_split_equals_a_slow_one(counts: list[int]) -> None:
    users = np.repeat(np.arange(len(counts)) * 7 + 3, counts)
    split = split_rows(users, 10)
    expected = [part for count in counts for part in slow_split(count)]
    assert [None if part == Split.ONLINE else part for part in split.tolist()] == expected


@given(st.lists(st.integers(1, 10**12)), st.sets(st.integers(1, 10**12), max_size=50))
def test_ids_are_encoded_as_by_a_dictionary(ids: list[int], known: set[int]) -> None:
    asked = ids + sorted(known)
    table = {value: place for place, value in enumerate(sorted(known), start=1)}
    found = vocabulary_index(np.array(asked, np.int64), np.array(sorted(known), np.int64))
    assert found.tolist() == [table.get(value, 0) for value in asked]


@given(st.lists(st.sampled_from(["M", "F", "X", ""])))
def test_categories_are_encoded_as_by_a_dictionary(values: list[str]) -> None:
    found = encode_categories(pd.Series(values, dtype=object), indices(GENDERS), "gender")
    assert found.tolist() == [{"M": 1, "F": 2}.get(value, 0) for value in values]


def test_unknown_categories_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        movies = pd.DataFrame({"itemid": [5, 9], "title": ["A", "B"], "genres": [["Drama", "Telenovela"], [""]]})
        table = item_table(movies, np.array([9]), MOVIELENS)
    assert "2 unknown values of genre" in caplog.text and "Telenovela" in caplog.text
    assert table["genres"].to_pylist() == [["Drama"], []]
    assert table["item_index"].to_pylist() == [0, 1]


def test_vocabularies_are_the_specified_ones() -> None:
    genres, occupations = indices(GENRES), indices(OCCUPATIONS)
    assert [genres[g] for g in ("Action", "Children's", "Western")] == [1, 4, 18]
    assert list(genres) == sorted(genres) and len(genres) == 18
    assert indices(AGES) == {"1": 1, "18": 2, "25": 3, "35": 4, "45": 5, "50": 6, "56": 7}
    assert (occupations["0"], occupations["20"]) == (1, 21)
    sizes = FEATURES.vocabulary_sizes({"userid": 5, "itemid": 7})
    assert {name: sizes[name] for name in ("user_index", "gender", "age", "occupation", "item_index")} == {
        "user_index": 5,
        "gender": 3,
        "age": 8,
        "occupation": 22,
        "item_index": 7,
    }
    assert {sizes[flag] for flag in FEATURES.genre_flags} == {2}


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3)), max_size=30))
def test_the_last_rating_of_an_item_counts(rows: list[tuple[int, int, int]]) -> None:
    """Against a dictionary that is filled by time, then in file order."""
    users, items, times = (
        (np.array(column, np.int64) for column in zip(*rows, strict=True)) if rows else [np.empty(0, np.int64)] * 3
    )
    order = time_order(users, times)
    last = {(users[row], items[row]): row for row in order}
    assert order[~rated_again(users[order], items[order])].tolist() == [row for row in order if row in last.values()]


def test_a_filtered_item_is_never_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything is rated twice, liked the second time."""
    lines = [
        f"{user}::{item}::{2 + 3 * again}::{100 * again + item}"
        for user in (1, 2)
        for again in (0, 1)
        for item in range(1, 41)
    ]
    (tmp_path / "ratings.dat").write_text("\n".join([*lines, ""]))
    (tmp_path / "movies.dat").write_text("".join(f"{item}::T::Drama\n" for item in range(1, 41)))
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path / "artefacts"))
    s1_data_split.main()
    assert "80 of 160 ratings are of an item that the user rated again" in caplog.text
    rows = catalogue.DATASET.load().rows
    assert (rows.ratings, rows.positives, rows.repeated) == (80, 80, 80)
    columns = ["userid", "itemid"]
    everything = pd.concat(
        [a.load(columns).to_pandas() for a in (catalogue.OFFLINE_IMPRESSIONS, catalogue.ONLINE_IMPRESSIONS)]
    )
    assert len(everything) == 80 and not everything.duplicated().any()
