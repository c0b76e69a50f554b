"""Establishes that the generator keeps its promises: bytes, layout, spread, and an order that carries information."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_exchange_center.vocabularies import AGES, GENRES, OCCUPATIONS
from offline.preprocess.readers.recognise import recognise
from offline.preprocess.synthetic.files import END, RATING_SHARES, START, generate
from offline.preprocess.synthetic.oracle import HELD_OUT, ORACLE_FILE, Truth, load_truth, oracle_scores
from offline.preprocess.synthetic.scale import MINIMUM_RATINGS, Scale
from tests.conftest import ROOT

FILES = ("ratings.dat", "users.dat", "movies.dat")
SMALL = Scale(users=400, items=600, ratings=30_000, max_userid=800_000, max_itemid=300_000)
TINY = Scale(users=30, items=60, ratings=700, max_userid=30, max_itemid=60)


@dataclass(frozen=True)
class Generated:
    """The small data set, ratings sorted by user, time and file order."""

    ratings: pd.DataFrame
    users: pd.DataFrame
    movies: pd.DataFrame
    truth: Truth

    def neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """Items of two successive ratings of one user."""
        user, item = self.ratings["userid"].to_numpy(), self.ratings["itemid"].to_numpy()
        same = user[1:] == user[:-1]
        return item[:-1][same], item[1:][same]

    def is_held_out(self) -> np.ndarray:
        """[rows] the last HELD_OUT of each user."""
        by_user = self.ratings.groupby("userid")["itemid"]
        return (by_user.cumcount(ascending=False) < HELD_OUT).to_numpy()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    folder = tmp_path_factory.mktemp("small")
    generate(folder, SMALL)
    data = recognise(folder, "")
    ratings, users, movies = data.ratings(), data.users(), data.movies()
    frame = ratings.to_pandas().sort_values(["userid", "timestamp"], kind="stable", ignore_index=True)
    return Generated(frame, users, movies, load_truth(folder / ORACLE_FILE))


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(tmp_path / name, SMALL, seed)
    names = (*FILES, ORACLE_FILE)
    content = {name: [(tmp_path / name / file).read_bytes() for file in names] for name in "abc"}
    assert content["a"] == content["b"]
    assert all(one != other for one, other in zip(content["a"], content["c"], strict=True))
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == sorted(names)


def test_another_process_with_other_threads_gives_the_same_bytes(tmp_path: Path) -> None:
    program = (
        "import hashlib, json, sys; from pathlib import Path\n"
        "from offline.preprocess.synthetic.files import generate\n"
        "from offline.preprocess.synthetic.scale import Scale\n"
        "folder = Path(sys.argv[1]); generate(folder, Scale(**json.loads(sys.argv[2])), 5)\n"
        "print([hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())])"
    )
    generate(tmp_path / "here", TINY, 5)
    own = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted((tmp_path / "here").iterdir())]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "there"), json.dumps(vars(TINY))],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(own)


def test_scale_and_vocabularies(small: Generated) -> None:
    ratings, users, movies = small.ratings, small.users, small.movies
    assert (len(ratings), len(users), len(movies)) == (SMALL.ratings, SMALL.users, SMALL.items)
    assert not ratings.duplicated(["userid", "itemid"]).any()
    assert ratings["userid"].isin(users["userid"]).all() and ratings["itemid"].isin(movies["itemid"]).all()
    assert users["userid"].max() > 100_000 and movies["itemid"].max() > 100_000
    assert set(users["gender"]) == {"M", "F"}
    assert set(users["age"]) <= set(AGES) and set(users["occupation"]) <= set(OCCUPATIONS)
    assert set(movies["genres"].explode()) <= set(GENRES)


def test_spread_of_ratings_users_and_items(small: Generated) -> None:
    counts = small.ratings["userid"].value_counts()
    assert len(counts) == SMALL.users and counts.min() >= MINIMUM_RATINGS and counts.max() <= SMALL.items // 2
    shares = small.ratings["rating"].value_counts(normalize=True).sort_index()
    assert shares.to_numpy() == pytest.approx(RATING_SHARES, abs=1 / SMALL.ratings)
    popular = small.ratings["itemid"].value_counts()
    assert popular.iloc[: SMALL.items // 20].sum() > 0.12 * SMALL.ratings  # more than twice an equal share
    assert popular.iloc[: SMALL.items // 2].sum() > 0.7 * SMALL.ratings


def test_time_rises_within_ml_1m_s_with_ties(tmp_path: Path) -> None:
    generate(tmp_path, TINY)
    ratings = recognise(tmp_path, "").ratings()
    user, seconds = ratings["userid"].to_numpy(), ratings["timestamp"].to_numpy()
    steps = np.diff(seconds)[np.diff(user) == 0]
    assert (np.diff(user) >= 0).all() and (steps >= 0).all()
    assert 0.2 < (steps == 0).mean() < 0.6 and (steps >= 86_400).any()
    assert seconds.min() >= START and seconds.max() <= END


def test_items_follow_items(small: Generated) -> None:
    """More often than the popularity of both would have it, and unlike pairs of the same user far apart in time."""
    before, after = small.neighbours()
    rng = np.random.default_rng(0)

    def repeated(other: np.ndarray) -> float:
        """Share of the pairs that occur five times or more."""
        _, counts = np.unique(before * 1_000_000 + other, return_counts=True)
        return float(counts[counts >= 5].sum() / len(before))

    shuffled = small.ratings.groupby("userid")["itemid"].transform(lambda own: rng.permutation(own.to_numpy()))
    same = small.ratings["userid"].to_numpy()[1:] == small.ratings["userid"].to_numpy()[:-1]
    in_any_order = shuffled.to_numpy()[1:][same]
    assert repeated(after) > 5 * repeated(in_any_order)


def test_parts_of_a_series_follow_each_other_in_order(small: Generated) -> None:
    following = {
        small.truth.itemid[row]: small.truth.itemid[part] for row, part in enumerate(small.truth.next_part) if part >= 0
    }
    assert len(following) > SMALL.items // 50
    before, after = small.neighbours()
    first = pd.Series(before).map(following)
    assert (first.dropna() == after[first.notna()]).mean() > 0.3
    place = small.ratings.assign(number=np.arange(len(small.ratings))).set_index(["userid", "itemid"])["number"]
    pairs = [
        (place[user, item], place[user, following[item]])
        for user, item in place.index
        if item in following and (user, following[item]) in place.index
    ]
    assert np.mean([one < other for one, other in pairs]) > 0.75

    titles = small.movies.set_index("itemid")["title"]
    for item, part in following.items():
        assert re.search(r" (II|III|IV|V) \(", titles[part])
        stems = [re.sub(r"( (II|III|IV|V))? \(\d{4}\)$", "", titles[own]) for own in (item, part)]
        assert stems[0] == stems[1]
        assert int(titles[item][-5:-1]) <= int(titles[part][-5:-1])


def test_each_item_stands_in_one_list_of_each_kind(small: Generated) -> None:
    truth = small.truth
    assert (truth.list_items[truth.list_place] == np.arange(SMALL.items)).all()
    assert np.sort(truth.list_place.ravel()).tolist() == list(range(len(truth.list_items)))
    assert (truth.list_place < truth.list_end[truth.list_place]).all()


def test_the_oracle_expects_more_than_popularity_finds(small: Generated) -> None:
    truth, held_out = small.truth, small.is_held_out()
    blocks = list(oracle_scores(truth, truth.userid))
    scores = np.concatenate([block for _, block in blocks])
    assert np.concatenate([users for users, _ in blocks]).tolist() == small.users["userid"].tolist()
    user = np.searchsorted(truth.userid, small.ratings["userid"])
    item = np.searchsorted(truth.itemid, small.ratings["itemid"])
    liked = small.ratings["rating"].to_numpy() > 3
    assert scores.dtype == np.float32 and scores.shape == (SMALL.users, SMALL.items)
    seen = np.zeros(scores.shape, bool)
    seen[user[~held_out], item[~held_out]] = True
    assert not scores[seen].any() and (scores[~seen] > 0).all()

    relevant = np.zeros(scores.shape, bool)
    relevant[user[held_out & liked], item[held_out & liked]] = True
    popularity = np.bincount(item[~held_out & liked], minlength=SMALL.items)

    def precision(of: np.ndarray) -> float:
        top = np.argsort(np.where(seen, -np.inf, of), axis=1)[:, -10:]
        return float(np.take_along_axis(relevant, top, 1).mean())

    assert precision(scores) > 2 * precision(np.broadcast_to(popularity, scores.shape))
    assert scores.sum() == pytest.approx(relevant.sum(), rel=0.05)  # as many as come true


def test_the_oracle_gives_the_same_scores_each_time(small: Generated) -> None:
    some = small.truth.userid[[3, 5]]
    (users, scores), *_ = oracle_scores(small.truth, some)
    (_, again), *_ = oracle_scores(small.truth, some)
    assert users.tolist() == some.tolist() and (scores == again).all()
    with pytest.raises(ValueError, match="not of this data set"):
        next(oracle_scores(small.truth, np.array([small.truth.userid[-1] + 1])))


def test_the_oracle_s_file_holds_nothing_of_the_held_out_rows(small: Generated) -> None:
    truth, offline = small.truth, ~small.is_held_out()
    assert truth.rated_until[-1] == len(truth.rated) == offline.sum()
    rated = truth.itemid[truth.rated]
    assert rated.tolist() == small.ratings["itemid"][offline].tolist()


@pytest.mark.parametrize("scale", [{"ratings": 10}, {"users": 10, "items": 20, "ratings": 199}, {"max_userid": 3}])
def test_an_impossible_scale_is_refused(scale: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        Scale(**scale)
