"""What is true in the generated world before anybody rates: items, series, the site's lists, users and their tastes.

- Items: long-tailed popularity, quality (which follows popularity a little), genres, a director of one genre, a
  year, and a taste vector that follows genres and director.
- Series: one item in ten is part of one. Parts share genres, director and most of the taste; each is a little less
  popular and less good than the one before, and some years younger.
- Lists, each in an order of its own: a director's films by year; shelves of one genre and decade, the most popular
  first, `SHELF_LENGTH` items at most; themes, whose items suit the same taste. Each item stands in one list of each
  kind.
- Users: a lasting taste that follows gender and age in part, leniency, and how many items they rate.
"""

from dataclasses import dataclass

import numpy as np

from data_exchange_center.arrays import BoolArray, Float64Array, Int64Array, UInt8Array
from data_exchange_center.vocabularies import AGES, GENRES, OCCUPATIONS
from offline.preprocess.synthetic.scale import MINIMUM_RATINGS, Scale

AGE_SHARES = (0.037, 0.183, 0.347, 0.198, 0.091, 0.082, 0.062)
FEMALE_SHARE = 0.283
GENRE_SHARES = np.array([503, 283, 105, 251, 1200, 211, 127, 1603, 68, 44, 343, 114, 106, 471, 276, 492, 143, 68])
GENRES_OF_AN_ITEM = (0.52, 0.33, 0.12, 0.03)  # shares of the items that have 1, 2, 3 and 4
TASTE_DIM = 8
POPULARITY = 2.4
FIRST_YEAR, LAST_YEAR = 1925, 2000
PARTS_OF_A_SERIES = (0.55, 0.25, 0.12, 0.08)  # shares of the series that have 2, 3, 4 and 5
ITEMS_A_SERIES = 30  # one series for so many items of the catalogue
ITEMS_A_DIRECTOR = 5
ITEMS_A_THEME = 60
SHELF_LENGTH = 120


@dataclass(frozen=True)
class Items:
    """The catalogue, in order of the ids."""

    ids: Int64Array
    flags: UInt8Array  # [items, genres]
    taste: Float64Array  # [items, TASTE_DIM] whom it suits
    popularity: Float64Array  # logarithm of how often it is met
    quality: Float64Array  # how well it is liked by all
    year: Int64Array
    first_part: Int64Array  # row of its series' first part; its own where it is in none
    part: Int64Array  # 0 for the first part, and for items in no series
    next_part: Int64Array  # row of the part after it, -1 where there is none


@dataclass(frozen=True)
class Lists:
    """All lists of the site, one after the other; each item stands in one list of each kind."""

    items: Int64Array  # [kinds * items] item row at each place
    end: Int64Array  # [kinds * items] the place after the last one of the same list
    place: Int64Array  # [kinds, items] where each item stands


@dataclass(frozen=True)
class Users:
    """Who rates, in order of the ids."""

    ids: Int64Array
    female: BoolArray
    age: Int64Array  # position in AGES
    occupation: Int64Array
    taste: Float64Array  # [users, TASTE_DIM]
    leniency: Float64Array
    counts: Int64Array


def _ids(rng: np.random.Generator, count: int, largest: int) -> Int64Array:
    """Sorted ids with gaps; dense from 1 where there is no room for gaps."""
    return np.sort(rng.choice(largest, count, replace=False).astype(np.int64)) + 1


def _counts(rng: np.random.Generator, scale: Scale) -> Int64Array:
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


def _series(rng: np.random.Generator, items: int) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Which items form series: first part, number of the part and next part of each item."""
    sizes = 2 + rng.choice(len(PARTS_OF_A_SERIES), items // ITEMS_A_SERIES, p=PARTS_OF_A_SERIES)
    members = rng.permutation(items)[: sizes.sum()]
    ends = np.cumsum(sizes)
    starts = np.repeat(ends - sizes, sizes)
    first, part, following = np.arange(items), np.zeros(items, np.int64), np.full(items, -1)
    first[members] = members[starts]
    part[members] = np.arange(len(members)) - starts
    following[members[:-1]] = members[1:]
    following[members[ends - 1]] = -1
    return first, part, following


def draw_items(rng: np.random.Generator, scale: Scale) -> tuple[Items, Int64Array]:
    """The catalogue, and the director of each item."""
    shares = GENRE_SHARES / GENRE_SHARES.sum()
    first, part, following = _series(rng, scale.items)
    how_many = 1 + rng.choice(len(GENRES_OF_AN_ITEM), scale.items, p=GENRES_OF_AN_ITEM)[first]
    # The order of (log share + Gumbel noise) is a draw without replacement by share.
    order = np.argsort(-(np.log(shares) + rng.gumbel(size=(scale.items, len(GENRES)))), axis=1, kind="stable")[first]
    flags = np.zeros((scale.items, len(GENRES)), np.uint8)
    for position in range(len(GENRES_OF_AN_ITEM)):
        chosen = how_many > position
        flags[np.flatnonzero(chosen), order[chosen, position]] = 1

    # A director makes films of one genre; some make many.
    directors = np.maximum(np.round(shares * scale.items / ITEMS_A_DIRECTOR).astype(np.int64), 1)
    main = order[:, 0]
    of_genre = np.floor(rng.random(scale.items)[first] ** 2 * directors[main]).astype(np.int64)
    director = (np.cumsum(directors) - directors)[main] + of_genre

    in_genres = np.einsum("ig,gk->ik", flags / flags.sum(1, keepdims=True), rng.normal(size=(len(GENRES), TASTE_DIM)))
    by_director = rng.normal(size=(directors.sum(), TASTE_DIM))[director]
    own = rng.normal(size=(scale.items, TASTE_DIM))
    own = np.where(part[:, None] > 0, 0.9 * own[first] + 0.45 * own, own)
    popularity = rng.normal(0, POPULARITY, scale.items)
    popularity = np.where(part > 0, np.abs(popularity[first]) - 0.35 * part + 0.15 * popularity, popularity)
    popularity = np.where((part == 0) & (following >= 0), np.abs(popularity), popularity)  # a flop has no sequel
    quality = rng.normal(size=scale.items)
    quality = np.where(part > 0, 0.8 * quality[first] - 0.35 * part + 0.4 * quality, quality)
    year = np.maximum(LAST_YEAR - np.floor(rng.exponential(13.0, scale.items)).astype(np.int64), FIRST_YEAR)
    gap = rng.integers(1, 4, scale.items)
    year = np.where(part > 0, np.minimum(year[first] + part * gap[first], LAST_YEAR), year)
    return (
        Items(
            ids=_ids(rng, scale.items, scale.max_itemid),
            flags=flags,
            taste=0.8 * in_genres + 0.35 * by_director + 0.5 * own,
            popularity=popularity,
            quality=0.45 * quality + 0.13 * popularity,
            year=year,
            first_part=first,
            part=part,
            next_part=following,
        ),
        director,
    )


def draw_lists(rng: np.random.Generator, items: Items, director: Int64Array) -> Lists:
    """The site's lists: each director's films by year, shelves of a genre's decade by popularity, themes of a taste."""
    count = len(items.ids)
    main = np.argmax(items.flags, axis=1)
    esteem = items.popularity + 0.5 * rng.normal(size=count)
    shelf = main * 1000 + items.year // 10
    in_shelf = np.lexsort((-esteem, shelf))
    starts = np.flatnonzero(np.diff(shelf[in_shelf], prepend=-1))
    depth = np.empty(count, np.int64)
    depth[in_shelf] = np.arange(count) - np.repeat(starts, np.diff(starts, append=count))
    shelf = shelf * 1000 + depth // SHELF_LENGTH
    centres = items.taste[rng.choice(count, max(count // ITEMS_A_THEME, 1), replace=False)]
    fit = 2 * np.einsum("ik,ck->ic", items.taste, centres) - np.square(centres).sum(1)
    theme = np.argmax(np.round(fit, 6), axis=1)
    kinds = ((director, items.year + 0.1 * items.part), (shelf, -esteem), (theme, rng.random(count)))

    order, end, place = [], [], np.empty((len(kinds), count), np.int64)
    for kind, (key, value) in enumerate(kinds):
        rows = np.lexsort((value, key))
        place[kind, rows] = kind * count + np.arange(count)
        starts = np.flatnonzero(np.diff(key[rows], prepend=-1))
        lengths = np.diff(starts, append=count)
        order.append(rows)
        end.append(kind * count + np.repeat(starts + lengths, lengths))
    return Lists(np.concatenate(order), np.concatenate(end), place)


def draw_users(rng: np.random.Generator, scale: Scale) -> Users:
    """Who rates: the taste follows gender and age in part."""
    female = rng.random(scale.users) < FEMALE_SHARE
    age = rng.choice(len(AGES), scale.users, p=np.array(AGE_SHARES) / sum(AGE_SHARES))
    by_gender = rng.normal(size=(2, TASTE_DIM))
    by_age = rng.normal(size=(len(AGES), TASTE_DIM))
    taste = 0.35 * by_gender[female.astype(int)] + 0.35 * by_age[age] + rng.normal(size=(scale.users, TASTE_DIM))
    return Users(
        ids=_ids(rng, scale.users, scale.max_userid),
        female=female,
        age=age,
        occupation=rng.integers(0, len(OCCUPATIONS), scale.users),
        taste=taste,
        leniency=0.57 * rng.normal(size=scale.users),
        counts=_counts(rng, scale),
    )
