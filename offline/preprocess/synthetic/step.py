"""One step of a walk through the catalogue: which item a user rates next, for many users at once.

From the item rated last,

1. where a next part of its series exists and is unseen: on to it, with probability `SEQUEL`;
2. else, where the user is in a list: down the list with probability `STAY`, to one of its next `WINDOW` places that
   hold an unseen item; the nearer the likelier, and the better it suits the user at present;
3. else to an item out of the whole catalogue, by the softmax of popularity, lasting taste and the phase's favourite
   genres; with probability `OPEN` the user opens one of the three lists that it stands in, and goes on from there.

The walk that makes the data and the oracle that goes on from its middle take the same step.

Preferences are rounded to whole units before anything is drawn by them, and their weights are looked up: the last
bit of a library's sum or exponential, which differs between machines, decides nothing. Nothing is multiplied by
BLAS.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from data_exchange_center.arrays import BoolArray, Float64Array, Int64Array
from data_exchange_center.vocabularies import GENRES
from offline.preprocess.synthetic.world import GENRE_SHARES, Items, Lists

Preferences = npt.NDArray[np.int16]

SEQUEL = 0.6
STAY = 0.95
OPEN = 0.4
KINDS = (0.2, 0.5, 0.3)  # which list is opened: the director's, the shelf, the theme
WINDOW = 16
NEARER = 0.9  # weight of a place against the place before it
PICKY = 1.0  # exponent of the preference in a list

BY_TASTE = 0.65
BY_FAVOURITE = 1.5  # for an item whose genres are all favourites
FAVOURITES = 3  # genres of a phase

UNIT = 256
MOST = 3071  # largest preference in units, 12
# Whole numbers, so that their sums, below 2**53, are exact.
WEIGHTS = np.floor(np.exp(np.arange(-MOST, MOST + 1) / UNIT) * 2**20)
LIST_WEIGHTS = np.exp(PICKY * np.arange(-MOST, MOST + 1) / UNIT)
TRIES = 6


class Source(IntEnum):
    """How a user came to an item."""

    CATALOGUE = 0
    LIST = 1
    SERIES = 2


@dataclass(frozen=True)
class World:
    """Items, lists, and each item's share in each genre."""

    items: Items
    lists: Lists
    genre_share: Float64Array  # [genres, items] adds up to 1 for each item
    bonus: Preferences  # [genres, items] how much more an item is preferred where the genre is a favourite

    @classmethod
    def of(cls, items: Items, lists: Lists) -> "World":
        """With the shares worked out."""
        share = np.ascontiguousarray((items.flags / items.flags.sum(1, keepdims=True)).T)
        return cls(items, lists, share, to_units(BY_FAVOURITE * share))


@dataclass(frozen=True)
class Tables:
    """Preferences of some rows (a user in a phase) over the catalogue, and how to draw by them."""

    preference: Preferences  # [rows, items]
    cumulative: (
        Float64Array  # [rows, items] row number plus share of the row's weight up to the item: rises over all rows
    )

    @classmethod
    def empty(cls, rows: int, items: int) -> "Tables":
        """To be filled by `set_rows`."""
        return cls(np.zeros((rows, items), np.int16), np.zeros((rows, items)))

    def set_rows(self, rows: Int64Array, preference: Preferences) -> None:
        """New preferences of those rows."""
        sums = np.cumsum(WEIGHTS[preference + MOST], axis=1)
        self.preference[rows] = preference
        self.cumulative[rows] = rows[:, None] + sums / sums[:, -1:]


@dataclass(frozen=True)
class Walkers:
    """Where each walker is; `step` moves them."""

    row: Int64Array  # whose preferences, in the tables
    last: Int64Array  # item rated last, -1 before the first
    place: Int64Array  # in the lists, -1 outside
    seen: BoolArray  # [walkers, items]

    def first(self, count: int) -> "Walkers":
        """Views of the first ones."""
        return Walkers(self.row[:count], self.last[:count], self.place[:count], self.seen[:count])

    def of(self, walkers: Int64Array) -> "Walkers":
        """Copies of those walkers, who move without the others."""
        return Walkers(self.row[walkers], self.last[walkers], self.place[walkers], self.seen[walkers])


@dataclass(frozen=True)
class Options:
    """What each walker may do next, but for an item out of the whole catalogue."""

    sequel: Int64Array  # [walkers] the series' next part where there is one, unseen; else -1
    places: Int64Array  # [walkers, WINDOW] next ones of the list
    items: Int64Array  # [walkers, WINDOW] on them
    weights: Float64Array  # [walkers, WINDOW] 0 where the list is over or the item seen


def affinities(user_taste: Float64Array, items: Items) -> Float64Array:
    """[users, items] inner products of [users, TASTE_DIM] with the items' tastes."""
    return np.einsum("uk,ik->ui", user_taste, items.taste)


def to_units(preference: Float64Array) -> Preferences:
    """In whole 1 / UNIT."""
    return np.clip(np.round(preference * UNIT), -MOST, MOST).astype(np.int16)


def lasting_preferences(items: Items, affinity: Float64Array) -> Preferences:
    """[users, items] by popularity and lasting taste."""
    return to_units(items.popularity + BY_TASTE * affinity)


def add_favourites(world: World, lasting: Preferences, favourites: Int64Array) -> Preferences:
    """[rows, items] with the favourite genres [rows, FAVOURITES] of the phase preferred."""
    return np.clip(lasting + sum(world.bonus[favourites[:, k]] for k in range(FAVOURITES)), -MOST, MOST)


def draw_favourites(rng: np.random.Generator, count: int) -> Int64Array:
    """[count, FAVOURITES] different genres, by how common they are."""
    noisy = np.log(GENRE_SHARES / GENRE_SHARES.sum()) + rng.gumbel(size=(count, len(GENRES)))
    return np.argsort(-noisy, axis=1, kind="stable")[:, :FAVOURITES]


def options(world: World, tables: Tables, at: Walkers) -> Options:
    """What each walker may do next, and by which weights."""
    walker = np.arange(len(at.row))
    sequel = np.where(at.last >= 0, world.items.next_part[at.last], -1)
    sequel = np.where((sequel >= 0) & ~at.seen[walker, sequel], sequel, -1)
    places = at.place[:, None] + np.arange(1, WINDOW + 1)
    inside = (at.place >= 0)[:, None] & (places < world.lists.end[at.place][:, None])
    items = world.lists.items[np.where(inside, places, 0)]
    weights = NEARER ** np.arange(WINDOW) * LIST_WEIGHTS[tables.preference[at.row[:, None], items] + MOST]
    return Options(sequel, places, items, np.where(inside & ~at.seen[walker[:, None], items], weights, 0.0))


def step(rng: np.random.Generator, world: World, tables: Tables, at: Walkers, ahead: Options) -> npt.NDArray[np.int8]:
    """Moves each walker on to the item that is rated next; returns the Source of each."""
    count = len(at.row)
    walker, chance = np.arange(count), rng.random((4, count))
    total = np.cumsum(ahead.weights, axis=1)
    in_series = (ahead.sequel >= 0) & (chance[0] < SEQUEL)
    in_list = ~in_series & (total[:, -1] > 0) & (chance[1] < STAY)
    chosen = np.minimum((total <= (chance[2] * total[:, -1])[:, None]).sum(1), WINDOW - 1)
    item = np.where(in_series, ahead.sequel, ahead.items[walker, chosen])
    place = np.where(in_list, ahead.places[walker, chosen], at.place)

    fresh = np.flatnonzero(~in_series & ~in_list)
    item[fresh] = draw_unseen(rng, tables, at, fresh)
    kind = np.searchsorted(np.cumsum(KINDS)[:-1], chance[3, fresh] / OPEN, side="right")
    place[fresh] = np.where(chance[3, fresh] < OPEN, world.lists.place[kind, item[fresh]], -1)
    at.last[:], at.place[:] = item, place
    at.seen[walker, item] = True
    return np.select([in_series, in_list], [Source.SERIES, Source.LIST], Source.CATALOGUE).astype(np.int8)


def draw_unseen(rng: np.random.Generator, tables: Tables, at: Walkers, walkers: Int64Array) -> Int64Array:
    """An unseen item for each of those walkers, by the weights of its row."""
    items, flat = tables.preference.shape[1], tables.cumulative.reshape(-1)
    row, found = at.row[walkers], np.empty(len(walkers), np.int64)
    left = np.arange(len(walkers))
    for _ in range(TRIES):
        drawn = np.searchsorted(flat, row[left] + rng.random(len(left)), side="right") - row[left] * items
        found[left] = np.minimum(drawn, items - 1)
        left = left[at.seen[walkers[left], found[left]]]
        if len(left) == 0:
            return found
    # Who has seen nearly all of the weight: the same draw, from what is left.
    weights = np.where(at.seen[walkers[left]], 0.0, WEIGHTS[tables.preference[row[left]] + MOST])
    sums = np.cumsum(weights, axis=1)
    found[left] = (sums <= np.floor(rng.random(len(left)) * sums[:, -1])[:, None]).sum(1)
    return found
