"""A seeded generator of ratings in MovieLens-1M's layout and at its scale, so that `make run` needs no download.

What it puts into the data, and so what a model can find there:

- items are long-tailed in popularity and differ in quality;
- a user's lasting taste is a vector that follows gender and age in part; it decides which items are met and liked;
- a user passes through phases, each with its favourite genres and its mood: what the history window can see and the
  ids alone cannot;
- ratings are spread like ML-1M's (57.5 % above 3), with at least 20 a user and ties in time.

The metrics measured on it say how the pipeline works, and nothing about MovieLens.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from data_exchange_center.vocabularies import AGE_INDEX, GENRES, OCCUPATION_INDEX

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MINIMUM_RATINGS = 20
RATING_SHARES = (0.0562, 0.1075, 0.2612, 0.3489, 0.2262)  # of 1..5 in ML-1M
AGE_SHARES = (0.037, 0.183, 0.347, 0.198, 0.091, 0.082, 0.062)
FEMALE_SHARE = 0.283
GENRE_SHARES = np.array([503, 283, 105, 251, 1200, 211, 127, 1603, 68, 44, 343, 114, 106, 471, 276, 492, 143, 68])
TASTE_DIM = 8
PHASES = 8
USERS_AT_A_TIME = 256
START = 956_703_932  # ML-1M's first second
END = 1_046_454_590  # and its last

TITLE_WORDS = (
    "Amélie Autumn Bridge Canyon Carnival City Comet Dancer Dawn Desert Echo Empire Evening Falcon Father Fire "
    "Fugitive Garden Ghost Gold Harbor Heart Highway Horizon Hotel Island Journey Kingdom Lantern Last Letter "
    "Lion Midnight Mirror Moon Mother Mountain Night Ocean Orchid Paris Promise Rain Return River Road Secret "
    "Señor Shadow Silence Silver Sky Snow Soldier Star Station Storm Stranger Summer Sun Thunder Tide Tiger Train "
    "Valley Voyage Waltz Widow Winter Wolf "
).split()


@dataclass(frozen=True)
class Scale:
    """How much to generate; the defaults are ML-1M's numbers."""

    users: int = 6040
    items: int = 3883
    ratings: int = 1_000_209
    max_userid: int = 6040
    max_itemid: int = 3952

    def __post_init__(self) -> None:
        """Refuses a scale that cannot be drawn."""
        if not self.users * MINIMUM_RATINGS <= self.ratings <= self.users * self.items // 2:
            raise ValueError(
                f"{self.ratings} ratings of {self.users} users over {self.items} items cannot be generated: each user "
                f"rates at least {MINIMUM_RATINGS} items and on average at most half of them."
            )
        if self.max_userid < self.users or self.max_itemid < self.items:
            raise ValueError("max_userid and max_itemid must leave room for an id each.")


@dataclass(frozen=True)
class _Items:
    ids: Ints
    flags: npt.NDArray[np.uint8]  # [items, genres]
    taste: Floats  # [items, TASTE_DIM]
    popularity: Floats  # log
    quality: Floats


@dataclass(frozen=True)
class _Users:
    ids: Ints
    female: npt.NDArray[np.bool_]
    age: Ints  # position in AGE_INDEX
    occupation: Ints
    taste: Floats  # [users, TASTE_DIM]
    leniency: Floats
    counts: Ints


def _ids(rng: np.random.Generator, count: int, largest: int) -> Ints:
    """Sorted ids with gaps; dense from 1 where there is no room for gaps."""
    return np.sort(rng.choice(largest, count, replace=False).astype(np.int64)) + 1


def _counts(rng: np.random.Generator, scale: Scale) -> Ints:
    """Ratings of each user: log-normal above the minimum, adding up exactly, never over half the items."""
    spread = rng.lognormal(0.0, 1.15, scale.users)
    room = scale.items // 2 - MINIMUM_RATINGS
    left = scale.ratings - MINIMUM_RATINGS * scale.users
    extra = np.zeros(scale.users, np.int64)
    while left:
        share = np.where(extra < room, spread, 0.0)
        add = np.minimum(np.floor(share / share.sum() * left).astype(np.int64), room - extra)
        if add.sum() == 0:  # less than one each is left: one for the most active that have room
            add[np.argsort(-share, kind="stable")[:left]] = 1
            add = np.where(extra < room, add, 0)
        extra += add
        left -= int(add.sum())
    return extra + MINIMUM_RATINGS


def _draw_items(rng: np.random.Generator, scale: Scale, genre_taste: Floats) -> _Items:
    shares = GENRE_SHARES / GENRE_SHARES.sum()
    how_many = rng.choice([1, 2, 3, 4], scale.items, p=[0.52, 0.33, 0.12, 0.03])
    order = np.argsort(-(np.log(shares) + rng.gumbel(size=(scale.items, len(GENRES)))), axis=1, kind="stable")
    flags = np.zeros((scale.items, len(GENRES)), np.uint8)
    for place in range(4):
        chosen = how_many > place
        flags[np.flatnonzero(chosen), order[chosen, place]] = 1
    of_genres = np.einsum("ig,gk->ik", flags / flags.sum(1, keepdims=True), genre_taste)
    popularity = rng.normal(0, 1.35, scale.items)
    return _Items(
        ids=_ids(rng, scale.items, scale.max_itemid),
        flags=flags,
        taste=0.8 * of_genres + 0.6 * rng.normal(size=(scale.items, TASTE_DIM)),
        popularity=popularity,
        quality=0.45 * rng.normal(size=scale.items) + 0.22 * popularity,
    )


def _draw_users(rng: np.random.Generator, scale: Scale) -> _Users:
    female = rng.random(scale.users) < FEMALE_SHARE
    age = rng.choice(len(AGE_INDEX), scale.users, p=np.array(AGE_SHARES) / sum(AGE_SHARES))
    by_gender = rng.normal(size=(2, TASTE_DIM))
    by_age = rng.normal(size=(len(AGE_INDEX), TASTE_DIM))
    taste = 0.35 * by_gender[female.astype(int)] + 0.35 * by_age[age] + rng.normal(size=(scale.users, TASTE_DIM))
    return _Users(
        ids=_ids(rng, scale.users, scale.max_userid),
        female=female,
        age=age,
        occupation=rng.integers(0, len(OCCUPATION_INDEX), scale.users),
        taste=taste,
        leniency=0.55 * rng.normal(size=scale.users),
        counts=_counts(rng, scale),
    )


def _impressions(rng: np.random.Generator, users: _Users, items: _Items) -> tuple[Ints, Ints, Floats]:
    """Which items each user rates, in order, and how much each is liked.

    Returns:
        user row, item row and utility of each rating, users adjacent, in order of time.
    """
    parts = []
    for first in tqdm(range(0, len(users.ids), USERS_AT_A_TIME), desc="generate", unit="block", disable=None):
        block = slice(first, first + USERS_AT_A_TIME)
        counts = users.counts[block]
        affinity = np.einsum("uk,ik->ui", users.taste[block], items.taste)
        # The largest counts[u] of (logit + Gumbel noise) are a draw without replacement by softmax(logit).
        appeal = 1.0 * items.popularity + 0.75 * affinity + rng.gumbel(size=affinity.shape)
        order = np.argsort(-appeal, axis=1, kind="stable")[:, : counts.max()]
        taken = np.arange(counts.max()) < counts[:, None]
        user, item = np.repeat(np.arange(len(counts)), counts), order[taken]

        # Each phase has favourite genres: an item is met in the phase that suits it, and liked more there.
        favourite = rng.gumbel(size=(len(counts), PHASES, len(GENRES))) + np.log(GENRE_SHARES / GENRE_SHARES.sum())
        favourite = (favourite >= np.sort(favourite, axis=2)[:, :, -3:-2]).astype(np.float64)
        suits = np.einsum("npg,ng->np", favourite[user], items.flags[item] / items.flags[item].sum(1, keepdims=True))
        available = np.arange(PHASES) < np.clip(counts // 16, 1, PHASES)[user][:, None]
        phase = np.argmax(np.where(available, 1.5 * suits + rng.gumbel(size=suits.shape), -np.inf), axis=1)
        mood = 0.45 * rng.normal(size=(len(counts), PHASES))

        utility = (
            users.leniency[block][user]
            + items.quality[item]
            + 0.36 * affinity[user, item]
            + 1.1 * (suits[np.arange(len(user)), phase] - 0.3)
            + mood[user, phase]
            + 0.85 * rng.normal(size=len(user))
        )
        in_time = np.lexsort((rng.random(len(user)), phase, user))
        parts.append((user[in_time] + first, item[in_time], utility[in_time]))
    user, item, utility = (np.concatenate(column) for column in zip(*parts, strict=True))
    return user, item, utility


def _ratings(utility: Floats) -> Ints:
    """1..5 by the utility's rank, in ML-1M's shares."""
    rank = np.empty(len(utility), np.int64)
    rank[np.argsort(utility, kind="stable")] = np.arange(len(utility))
    limits = np.floor(np.cumsum(RATING_SHARES[:-1]) * len(utility)).astype(np.int64)
    return np.searchsorted(limits, rank, side="right") + 1


def _timestamps(rng: np.random.Generator, user: Ints, counts: Ints) -> Ints:
    """Seconds that rise within a user, with ties: people rate several items of one page in the same second."""
    start = rng.integers(START, END - 40_000_000, len(counts))
    step = rng.choice([0, 7, 25, 90, 86_400], len(user), p=[0.3, 0.3, 0.2, 0.17, 0.03])
    elapsed = np.cumsum(step)
    first = np.cumsum(counts) - counts
    return start[user] + elapsed - np.repeat(elapsed[first], counts)


def _text_columns(*columns: pa.Array) -> bytes:
    """Lines of `::`-joined fields as ISO-8859-1."""
    lines = pc.binary_join_element_wise(*(pc.cast(column, pa.string()) for column in columns), "::")
    return ("\n".join(lines.to_pylist()) + "\n").encode("iso-8859-1")


def _titles(rng: np.random.Generator, count: int) -> list[str]:
    words = np.array(TITLE_WORDS)[rng.integers(0, len(TITLE_WORDS), (count, 3))]
    years = rng.integers(1925, 2001, count)
    patterns = np.array(["The {0} {1} ({3})", "{0} of the {1} ({3})", "{0}: The {1} {2} ({3})", "{0} {1}, The ({3})"])
    return [
        pattern.format(*row, year)
        for pattern, row, year in zip(patterns[rng.integers(0, 4, count)], words, years, strict=True)
    ]


def generate(folder: Path, scale: Scale | None = None, seed: int = 2024) -> None:
    """Writes ratings.dat, users.dat and movies.dat; the same bytes for the same scale and seed.

    Args:
        folder: where to write; made when missing. The files appear complete or not at all.
        scale: how much; ML-1M's numbers unless given.
        seed: of numpy's PCG64.
    """
    scale = scale or Scale()
    rng = np.random.default_rng(seed)
    items = _draw_items(rng, scale, rng.normal(size=(len(GENRES), TASTE_DIM)))
    users = _draw_users(rng, scale)
    user, item, utility = _impressions(rng, users, items)
    timestamps = _timestamps(rng, user, users.counts)
    genres = ["|".join(np.array(GENRES)[row.astype(bool)]) for row in items.flags]
    ages = np.array(list(AGE_INDEX))[users.age]
    zips = rng.integers(501, 99_951, scale.users)
    files = {
        "movies.dat": (pa.array(items.ids), pa.array(_titles(rng, scale.items)), pa.array(genres)),
        "users.dat": (
            pa.array(users.ids),
            pa.array(np.where(users.female, "F", "M")),
            pa.array(ages),
            pa.array(users.occupation),
            pa.array([f"{code:05}" for code in zips]),
        ),
        "ratings.dat": (
            pa.array(users.ids[user]),
            pa.array(items.ids[item]),
            pa.array(_ratings(utility)),
            pa.array(timestamps),
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        for name, fields in files.items():
            (Path(beside) / name).write_bytes(_text_columns(*fields))
        for name in files:  # ratings.dat last: its presence says that the data set is complete
            os.replace(Path(beside) / name, folder / name)
