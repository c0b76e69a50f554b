"""Writes the generated data set: MovieLens-1M's three files at its scale, so that `make run` needs no download.

What is put in, and so what a model can find in it:

- items are long-tailed in popularity and differ in quality; some are the parts of a series (`world.py`);
- a user's lasting taste is a vector that follows gender and age in part; it decides which items are met and liked;
- items follow items: the next part of a series, the next places of a list that the site shows in order (a director's
  films, a shelf of one genre and decade, a theme), several of them within seconds (`step.py`). Two of three ratings
  come about so;
- a user passes through phases, each with its favourite genres and its mood (`walk.py`);
- ratings are spread like ML-1M's (57.5 % above 3), with at least 20 a user and ties in time.

Beside them stands `oracle.npz`, what is true about each user at the end of the offline rows: `oracle.py` makes of it
the ceiling that no model passes. The metrics on this data say how the pipeline works, and nothing about MovieLens.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from data_exchange_center.arrays import Float64Array, Int32Array, Int64Array
from data_exchange_center.vocabularies import AGES, GENRES
from offline.preprocess.synthetic.oracle import HELD_OUT, ORACLE_FILE, Truth, save_truth
from offline.preprocess.synthetic.scale import Scale
from offline.preprocess.synthetic.step import Source, World
from offline.preprocess.synthetic.titles import draw_titles
from offline.preprocess.synthetic.walk import State, Walks, walks
from offline.preprocess.synthetic.world import Users, draw_items, draw_lists, draw_users

RATING_SHARES = (0.0562, 0.1075, 0.2612, 0.3489, 0.2262)  # of 1..5 in ML-1M
LOWEST_LIKED = 4
LINES_AT_A_TIME = 500_000
START = 956_703_932  # ML-1M's first second
END = 1_046_454_590  # and its last

# Seconds since the rating before. Of a list's page people rate several items, and send them at once.
SECONDS_IN_A_LIST = np.array([0, 7, 25, 90])
SHARES_IN_A_LIST = (0.45, 0.35, 0.15, 0.05)
SECONDS_TO_A_FRESH_ITEM = np.array([0, 7, 25, 90, 86_400])
SHARES_TO_A_FRESH_ITEM = (0.1, 0.25, 0.3, 0.28, 0.07)


@dataclass(frozen=True)
class _Rows:
    """All ratings, users in the order of their ids, each user's in the order of time."""

    user: Int32Array
    item: Int32Array
    source: npt.NDArray[np.int8]
    utility: Float64Array


def _in_order_of_users(blocks: list[Walks]) -> tuple[_Rows, State]:
    """All rows, and where each user was at the cut."""
    user, item, source, utility = (
        np.concatenate(column) for column in zip(*((b.user, b.item, b.source, b.utility) for b in blocks), strict=True)
    )
    rows = np.argsort(user, kind="stable")
    users, place, favourites, mood = (
        np.concatenate(column)
        for column in zip(*((b.users, b.cut.place, b.cut.favourites, b.cut.mood) for b in blocks), strict=True)
    )
    order = np.argsort(users, kind="stable")
    cut = State(place[order], favourites[order], mood[order])
    return _Rows(user[rows], item[rows], source[rows], utility[rows]), cut


def ratings_by_rank(utility: Float64Array) -> tuple[Int64Array, float]:
    """1..5 by the utility's rank, in ML-1M's shares; and the utility from which an item counts as liked."""
    order = np.argsort(utility, kind="stable")
    rank = np.empty(len(utility), np.int64)
    rank[order] = np.arange(len(utility))
    limits = np.floor(np.cumsum(RATING_SHARES[:-1]) * len(utility)).astype(np.int64)
    return np.searchsorted(limits, rank, side="right") + 1, float(utility[order[limits[LOWEST_LIKED - 2]]])


def _timestamps(rng: np.random.Generator, rows: _Rows, counts: Int64Array) -> Int64Array:
    """Seconds that rise within a user, with ties: people rate several items of one page in the same second."""
    chance = rng.random(len(rows.user))
    in_list = np.searchsorted(np.cumsum(SHARES_IN_A_LIST)[:-1], chance, side="right")
    fresh = np.searchsorted(np.cumsum(SHARES_TO_A_FRESH_ITEM)[:-1], chance, side="right")
    seconds = np.where(rows.source == Source.CATALOGUE, SECONDS_TO_A_FRESH_ITEM[fresh], SECONDS_IN_A_LIST[in_list])
    first = np.cumsum(counts) - counts
    seconds[first] = 0
    elapsed = np.cumsum(seconds)
    elapsed -= np.repeat(elapsed[first], counts)
    total = elapsed[first + counts - 1]
    squeezed = np.maximum(-(-total // (END - START)), 1)  # someone with very many ratings is quicker
    elapsed, total = elapsed // squeezed[rows.user], total // squeezed
    start = START + np.floor(rng.random(len(counts)) * (END - START - total + 1)).astype(np.int64)
    return start[rows.user] + elapsed


def write_lines(file: Path, columns: Sequence[pa.Array], append: bool = False) -> None:
    """Lines of `::`-joined fields as ISO-8859-1, in a new file or behind what is there."""
    with file.open("ab" if append else "wb") as out:
        for start in range(0, len(columns[0]), LINES_AT_A_TIME):
            block = (pc.cast(column.slice(start, LINES_AT_A_TIME), pa.string()) for column in columns)
            lines = pc.binary_join_element_wise(*block, "::").to_pylist()
            out.write(("\n".join(lines) + "\n").encode("iso-8859-1"))


def _user_columns(rng: np.random.Generator, users: Users) -> tuple[pa.Array, ...]:
    return (
        pa.array(users.ids),
        pa.array(np.where(users.female, "F", "M")),
        pa.array(np.array(AGES)[users.age]),
        pa.array(users.occupation),
        pa.array([f"{code:05}" for code in rng.integers(501, 99_951, len(users.ids))]),
    )


def generate(folder: Path, scale: Scale | None = None, seed: int = 2024) -> None:
    """Writes ratings.dat, users.dat, movies.dat and the oracle's file; the same bytes for the same scale and seed.

    Args:
        folder: where to write; made when missing. The files appear complete or not at all.
        scale: how much; ML-1M's unless given.
        seed: of numpy's PCG64.
    """
    scale = scale or Scale()
    rng = np.random.default_rng(seed)
    items, director = draw_items(rng, scale)
    world, users = World.of(items, draw_lists(rng, items, director)), draw_users(rng, scale)
    parts = []
    with tqdm(total=scale.ratings, desc="generate", unit="rating", unit_scale=True, disable=None) as bar:
        for part in walks(rng, world, users, HELD_OUT):
            parts.append(part)
            bar.update(len(part.user))
    rows, cut = _in_order_of_users(parts)
    del parts  # as much memory again as the rows
    ratings, liked_from = ratings_by_rank(rows.utility)
    genres = ["|".join(np.array(GENRES)[row.astype(bool)]) for row in items.flags]
    files = {
        "movies.dat": (pa.array(items.ids), pa.array(draw_titles(rng, items)), pa.array(genres)),
        "users.dat": _user_columns(rng, users),
        "ratings.dat": (
            pa.array(users.ids[rows.user]),
            pa.array(items.ids[rows.item]),
            pa.array(ratings),
            pa.array(_timestamps(rng, rows, users.counts)),
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        save_truth(Path(beside) / ORACLE_FILE, Truth.of(world, users, cut, rows.item, liked_from))
        for name, fields in files.items():
            write_lines(Path(beside) / name, fields)
        for name in (ORACLE_FILE, *files):  # ratings.dat last: its presence says that the data set is complete
            os.replace(Path(beside) / name, folder / name)
