"""Establishes that the generator writes the same bytes every time, in the layout, at the scale and spread asked for."""

from pathlib import Path

import numpy as np
import pytest

from data_exchange_center.vocabularies import AGE_INDEX, GENRE_INDEX, OCCUPATION_INDEX
from offline.preprocess.movielens import FILES, read_movies, read_ratings, read_users
from offline.preprocess.synthetic import MINIMUM_RATINGS, Scale, generate

SMALL = Scale(users=150, items=200, ratings=6000, max_userid=800_000, max_itemid=300_000)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(tmp_path / name, SMALL, seed)
    content = {name: [(tmp_path / name / file).read_bytes() for file in FILES] for name in "abc"}
    assert content["a"] == content["b"] != content["c"]
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == sorted(FILES)


def test_scale_spread_and_vocabularies(tmp_path: Path) -> None:
    generate(tmp_path, SMALL)
    ratings, users, movies = (
        read(tmp_path / file) for read, file in zip((read_ratings, read_users, read_movies), FILES, strict=True)
    )
    userid, rating = ratings["userid"].to_numpy(), ratings["rating"].to_numpy()
    counts = np.unique(userid, return_counts=True)[1]
    assert (len(ratings), len(users), len(movies)) == (SMALL.ratings, SMALL.users, SMALL.items)
    assert len(counts) == SMALL.users and counts.min() >= MINIMUM_RATINGS
    assert abs((rating > 3).mean() - 0.575) < 0.002
    assert len(set(zip(userid.tolist(), ratings["itemid"].to_pylist(), strict=True))) == SMALL.ratings  # each once
    assert np.isin(userid, users["userid"]).all() and np.isin(ratings["itemid"].to_numpy(), movies["itemid"]).all()
    assert users["userid"].max() > 100_000 and set(users["gender"]) == {"M", "F"}
    assert set(users["age"]) <= set(map(str, AGE_INDEX)) and set(users["occupation"]) <= set(map(str, OCCUPATION_INDEX))
    assert set(movies["genres"].explode()) <= set(GENRE_INDEX)
    seconds = ratings["timestamp"].to_numpy()
    assert (np.diff(seconds)[np.diff(userid) == 0] == 0).mean() > 0.1  # ties in time


@pytest.mark.parametrize("scale", [{"ratings": 10}, {"users": 10, "items": 20, "ratings": 199}, {"max_userid": 3}])
def test_an_impossible_scale_is_refused(scale: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        Scale(**scale)
