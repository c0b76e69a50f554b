"""Who rates what, in which order, and how much it is liked: each user's walk, for all users of a block at once.

The steps are those of `step.py`. A user passes through phases: before each step the present one ends with a
probability of the user's own; the next has `FAVOURITES` new favourite genres and a new mood, and begins outside of
any list. That is what the history window can see, and the ids alone cannot.

How much an item is liked: the user's leniency, the item's quality, the lasting taste, the phase's favourite genres
and mood, and noise. What is met in a list or a series was chosen less by taste, and so is liked less often.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_exchange_center.arrays import Float64Array, FloatArray, Int32Array, Int64Array
from offline.preprocess.synthetic.step import (
    FAVOURITES,
    Tables,
    Walkers,
    World,
    add_favourites,
    affinities,
    draw_favourites,
    lasting_preferences,
    options,
    step,
)
from offline.preprocess.synthetic.world import Items, Users

PHASES = 6  # of a user with many ratings, on average
SHORTEST_PHASE = 24  # ratings, on average

LIKED_BY_TASTE = 0.32
LIKED_BY_FAVOURITE = 1.15
USUAL_FAVOURITE = 0.3  # an item's share in favourite genres that is neither liked nor disliked
MOOD = 0.45
NOISE = 0.85

PAIRS_AT_A_TIME = 2_000_000  # users of a block times items


@dataclass(frozen=True)
class State:
    """Where users are, between two steps, apart from what they have rated."""

    place: Int64Array  # [users] in the lists, -1 outside
    favourites: Int64Array  # [users, FAVOURITES] genres of the phase
    mood: Float64Array  # [users]

    @classmethod
    def start(cls, users: int) -> "State":
        """Nowhere yet."""
        return cls(np.full(users, -1), np.zeros((users, FAVOURITES), np.int64), np.zeros(users))

    def copy_rows(self, rows: Int64Array, other: "State") -> None:
        """Those rows become `other`'s."""
        self.place[rows], self.mood[rows] = other.place[rows], other.mood[rows]
        self.favourites[rows] = other.favourites[rows]


@dataclass(frozen=True)
class Walks:
    """The walks of some users, in order of time."""

    users: Int64Array  # [users] rows of Users
    user: Int32Array  # [n] rows of Users, adjacent
    item: Int32Array  # [n] rows of Items
    source: npt.NDArray[np.int8]  # [n] how the user came to it
    utility: Float64Array  # [n] how much it is liked
    cut: State  # [users] `held_out` steps before the end


def walks(rng: np.random.Generator, world: World, users: Users, held_out: int) -> Iterator[Walks]:
    """The walks of all users, a block of them at a time, those with the most ratings first."""
    by_count = np.argsort(-users.counts, kind="stable")
    size = max(PAIRS_AT_A_TIME // len(world.items.ids), 1)
    for first in range(0, len(by_count), size):
        yield _walk(rng, world, users, by_count[first : first + size], held_out)


def _walk(rng: np.random.Generator, world: World, users: Users, block: Int64Array, held_out: int) -> Walks:
    counts, size, items = users.counts[block], len(block), len(world.items.ids)
    lasting = lasting_preferences(world.items, affinities(users.taste[block], world.items))
    tables, ends = Tables.empty(size, items), phase_end_probability(counts)
    state, cut = State.start(size), State.start(size)
    everyone = Walkers(np.arange(size), np.full(size, -1), state.place, np.zeros((size, items), bool))
    shape = (size, int(counts[0]))
    item, source = np.zeros(shape, np.int32), np.zeros(shape, np.int8)
    suits, moods = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    active = np.searchsorted(-counts, -np.arange(shape[1]), side="left")  # the first ones take a step: counts fall
    for now, count in enumerate(active):
        cut.copy_rows(np.flatnonzero(counts[:count] == now + held_out), state)
        changed = np.flatnonzero((rng.random(count) < ends[:count]) | (now == 0))
        if len(changed):
            state.place[changed] = -1
            state.favourites[changed] = draw_favourites(rng, len(changed))
            state.mood[changed] = MOOD * rng.normal(size=len(changed))
            tables.set_rows(changed, add_favourites(world, lasting[changed], state.favourites[changed]))
        at = everyone.first(count)
        source[:count, now] = step(rng, world, tables, at, options(world, tables, at))
        item[:count, now] = at.last
        suits[:count, now] = world.genre_share[state.favourites[:count], at.last[:, None]].sum(1)
        moods[:count, now] = state.mood[:count]

    taken = np.arange(shape[1]) < counts[:, None]
    user, chosen = np.repeat(block, counts).astype(np.int32), item[taken]
    utility = lasting_utility(world.items, users, user, chosen) + phase_utility(suits[taken], moods[taken])
    return Walks(block, user, chosen, source[taken], utility + NOISE * rng.normal(size=len(user)), cut)


def phase_end_probability(counts: Int64Array) -> Float64Array:
    """[users] that the phase ends before the next step, by how many items a user rates."""
    return 1 / np.maximum(counts / PHASES, SHORTEST_PHASE)


def lasting_utility(items: Items, users: Users, user: Int32Array, item: Int32Array) -> Float64Array:
    """[n] how much users like items, but for phase and noise."""
    affinity = np.einsum("nk,nk->n", users.taste[user], items.taste[item])
    return users.leniency[user] + items.quality[item] + LIKED_BY_TASTE * affinity


def phase_utility(suits: FloatArray, mood: FloatArray) -> Float64Array:
    """What a phase adds: by the item's share in its favourite genres, and by its mood."""
    return LIKED_BY_FAVOURITE * (suits.astype(np.float64) - USUAL_FAVOURITE) + mood
