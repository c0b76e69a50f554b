"""The ceiling: what the true tastes and transitions expect of each user's last rows, without having seen them.

`generate` writes `oracle.npz` beside the data: the world's parameters, and where each user was HELD_OUT ratings
before the end: lasting taste, place in a list, favourite genres and mood of the phase, and all items rated until
then, in order. Nothing in it says what came after, but for the one number from which a utility counts as liked,
which is a rank over all ratings.

An item's score is the expected number of times that it is rated and liked within the next HELD_OUT ratings.
`ROLLOUTS` walkers a user go on from the cut by the generator's own step, with random numbers of their own. At each
step the probability of every possible next item counts, not only the one drawn, so that few walkers are enough.
Favourite genres of a phase that begins after the cut are not known: there each genre counts by how likely it is to
be a favourite.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from data_exchange_center.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array, UInt8Array
from offline.preprocess.synthetic import step, walk
from offline.preprocess.synthetic.step import Tables, Walkers, World
from offline.preprocess.synthetic.walk import State
from offline.preprocess.synthetic.world import Items, Lists, Users

ORACLE_FILE = "oracle.npz"
HELD_OUT = 10
ROLLOUTS = 32
PAIRS_AT_A_TIME = 24_000_000  # users of a block times items times rollouts
DRAWN_FAVOURITES = 20_000  # to see how likely each genre is to be a favourite
SEED = 1


@dataclass(frozen=True)
class Truth:
    """The true parameters, and where each user was at the cut."""

    userid: Int64Array  # [users] sorted
    user_taste: Float64Array  # [users, dim]
    leniency: Float64Array
    counts: Int64Array
    place: Int64Array  # in the lists, -1 outside
    favourites: Int64Array  # [users, FAVOURITES]
    mood: Float64Array
    rated: Int32Array  # rows of items, user by user, until the cut
    rated_until: Int64Array  # [users + 1] whose rows end where
    itemid: Int64Array  # [items] sorted
    flags: UInt8Array
    item_taste: Float64Array
    popularity: Float64Array
    quality: Float64Array
    next_part: Int64Array
    list_items: Int64Array
    list_end: Int64Array
    list_place: Int64Array
    liked_from: float

    @classmethod
    def of(cls, world: World, users: Users, cut: State, item: Int32Array, liked_from: float) -> "Truth":
        """From what was generated; `item` of all rows, users in the order of their ids."""
        items, lists = world.items, world.lists
        number = np.arange(len(item)) - np.repeat(np.cumsum(users.counts) - users.counts, users.counts)
        before = number < np.repeat(users.counts - HELD_OUT, users.counts)
        return cls(
            userid=users.ids,
            user_taste=users.taste,
            leniency=users.leniency,
            counts=users.counts,
            place=cut.place,
            favourites=cut.favourites,
            mood=cut.mood,
            rated=item[before],
            rated_until=np.concatenate([[0], np.cumsum(users.counts - HELD_OUT)]),
            itemid=items.ids,
            flags=items.flags,
            item_taste=items.taste,
            popularity=items.popularity,
            quality=items.quality,
            next_part=items.next_part,
            list_items=lists.items,
            list_end=lists.end,
            list_place=lists.place,
            liked_from=liked_from,
        )

    def world(self) -> World:
        """As the generator's step takes it; years and parts, which decide nothing any more, are zeros."""
        none = np.zeros(len(self.itemid), np.int64)
        items = Items(
            self.itemid, self.flags, self.item_taste, self.popularity, self.quality, none, none, none, self.next_part
        )
        return World.of(items, Lists(self.list_items, self.list_end, self.list_place))


def save_truth(file: Path, truth: Truth) -> None:
    """The same bytes for the same truth."""
    np.savez_compressed(file, **{field.name: getattr(truth, field.name) for field in fields(truth)})


def load_truth(file: Path) -> Truth:
    """Of the data set in whose folder the file lies.

    Raises:
        FileNotFoundError: real data have no oracle.
    """
    with np.load(file, allow_pickle=False) as arrays:
        content = {field.name: arrays[field.name] for field in fields(Truth)}
    return Truth(**{**content, "liked_from": float(content["liked_from"])})


def oracle_scores(truth: Truth, userids: Int64Array) -> Iterator[tuple[Int64Array, Float32Array]]:
    """What each user is expected to rate and like next, a block of users at a time.

    Args:
        truth: of `load_truth`.
        userids: n users of the data set.

    Yields:
        userids of the block, and [users of the block, items] the expected number of times that each item, in order of
        `truth.itemid`, is rated and liked within the next HELD_OUT ratings; 0 for items rated until the cut.
    """
    world = truth.world()
    rows = np.searchsorted(truth.userid, userids)
    if not np.array_equal(truth.userid[np.minimum(rows, len(truth.userid) - 1)], userids):
        raise ValueError("a userid is not of this data set")
    genres = step.draw_favourites(np.random.default_rng(SEED), DRAWN_FAVOURITES)
    likely = np.bincount(genres.ravel(), minlength=truth.flags.shape[1]) / DRAWN_FAVOURITES
    size = max(PAIRS_AT_A_TIME // len(truth.itemid) // ROLLOUTS, 1)
    for first in range(0, len(rows), size):
        block = rows[first : first + size]
        yield truth.userid[block], _block_scores(np.random.default_rng([SEED, first]), truth, world, block, likely)


def _rated(truth: Truth, block: Int64Array) -> BoolArray:
    """[users, items] what they have rated until the cut."""
    seen = np.zeros((len(block), len(truth.itemid)), bool)
    for row, user in enumerate(block):
        seen[row, truth.rated[truth.rated_until[user] : truth.rated_until[user + 1]]] = True
    return seen


def _block_scores(
    rng: np.random.Generator, truth: Truth, world: World, block: Int64Array, likely: Float64Array
) -> Float32Array:
    affinity = step.affinities(truth.user_taste[block], world.items)
    lasting = step.lasting_preferences(world.items, affinity)
    average = np.einsum("g,gi->i", likely, world.genre_share)  # [items] the favourites' share of an item, on average
    suits = world.genre_share[truth.favourites[block]].sum(1)
    # Two rows a user: the phase of the cut, and any later one.
    tables, users = Tables.empty(2 * len(block), len(truth.itemid)), np.arange(len(block))
    tables.set_rows(users, step.add_favourites(world, lasting, truth.favourites[block]))
    later = np.clip(lasting + step.to_units(step.BY_FAVOURITE * average), -step.MOST, step.MOST)
    tables.set_rows(len(block) + users, later)

    seen = _rated(truth, block)
    rated = np.concatenate(_expected_ratings(rng, truth, world, tables, block, seen))
    utility = truth.leniency[block, None] + world.items.quality + walk.LIKED_BY_TASTE * affinity
    now = utility + walk.phase_utility(suits, truth.mood[block, None]) - truth.liked_from
    then = utility + walk.phase_utility(average, np.zeros(1)) - truth.liked_from
    liked = rated[: len(block)] * ndtr(now / walk.NOISE) + rated[len(block) :] * ndtr(
        then / np.hypot(walk.NOISE, walk.MOOD)
    )
    return np.where(seen, 0, liked).astype(np.float32)


def _expected_ratings(
    rng: np.random.Generator, truth: Truth, world: World, tables: Tables, block: Int64Array, seen: BoolArray
) -> tuple[Float64Array, Float64Array]:
    """[users, items] how often each is rated within the next HELD_OUT: in the phase of the cut, and in later ones."""
    users = len(block)
    last = truth.rated_until[block + 1] - 1
    at = Walkers(
        np.tile(np.arange(users), ROLLOUTS),
        np.tile(np.where(last >= truth.rated_until[block], truth.rated[last], -1), ROLLOUTS),
        np.tile(truth.place[block], ROLLOUTS),
        np.tile(seen, (ROLLOUTS, 1)),
    )
    ends = np.tile(walk.phase_end_probability(truth.counts[block]), ROLLOUTS)
    rated, fresh = np.zeros((2 * users, len(truth.itemid))), np.zeros(2 * users)
    for _ in range(HELD_OUT):
        over = np.flatnonzero((rng.random(len(ends)) < ends) & (at.row < users))
        at.row[over] += users
        at.place[over] = -1
        ahead = step.options(world, tables, at)
        onward = np.where(ahead.sequel >= 0, step.SEQUEL, 0.0)
        total = ahead.weights.sum(1)
        listed = (1 - onward) * np.where(total > 0, step.STAY, 0.0)
        np.add.at(rated, (at.row, ahead.sequel), onward)
        shares = ahead.weights * (listed / np.where(total > 0, total, 1.0))[:, None]
        np.add.at(rated, (at.row[:, None], ahead.items), shares)
        fresh += np.bincount(at.row, (1 - onward) - listed, minlength=2 * users)
        step.step(rng, world, tables, at, ahead)
    weights = step.WEIGHTS[tables.preference + step.MOST] * ~np.tile(seen, (2, 1))
    share = weights / weights.sum(1, keepdims=True)
    rated = (rated + share * fresh[:, None]) / ROLLOUTS
    return rated[:users], rated[users:]
