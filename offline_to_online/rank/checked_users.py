"""What Redis and the artefacts hold of the users that the consistency check compares."""

from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from data_exchange_center.arrays import BoolArray, Float32Array, Int64Array
from data_exchange_center.limits import TOWER_IMPRESSIONS
from data_exchange_center.user_state import genre_flags
from offline_to_online.rank.consistency import LISTED_ITEMS, Difference, sequence_differences
from offline_to_online.rank.expected_features import Events, expected_impressions
from offline_to_online.recall.user_recall import Recent, latest_impressions, user_slices, users_with_rows
from online.callers.redis_caller import RedisCaller
from online.callers.types import UserRecall
from online.serving_data import ServingData
from online.user_events import sequence_after

USERS_AT_A_TIME = 1000

Pair = tuple[Int64Array, Int64Array]


def sequences_of(ids: Int64Array, recent: Recent, data: ServingData) -> tuple[Int64Array, Int64Array]:
    """[users, TOWER_IMPRESSIONS] item indices and likes of the users' last impressions."""
    if not len(ids):
        empty = np.zeros((0, TOWER_IMPRESSIONS), np.int64)
        return empty, empty
    parts = [sequence_after(recent.get(user, ()), data, TOWER_IMPRESSIONS) for user in ids.tolist()]
    items, liked = (np.concatenate(part) for part in zip(*parts, strict=True))
    return items, liked


def vectors_in_redis(users: list[UserRecall | None], dimensions: int) -> Float32Array:
    """[users, dimensions]; NaN for a user without a vector."""
    vectors = np.full((len(users), dimensions), np.nan, np.float32)
    for row, user in enumerate(users):
        if user and len(user.vector) == dimensions:
            vectors[row] = user.vector
    return vectors


@dataclass(frozen=True)
class Users:
    """What Redis and the artefacts hold of some users.

    Attributes:
        differences: users whose last impressions are not the expected ones.
        expected, found: see `sequences_of`; with the events, from the artefacts and from Redis.
        vectors: [users, dimensions] in Redis; NaN for a user without one.
        terms: [users, genres] bool, in Redis.
        listed: [n] userids and [n] itemids of each user's LISTED_ITEMS last offline impressions.
    """

    differences: list[Difference]
    expected: Pair
    found: Pair
    vectors: Float32Array
    terms: BoolArray
    listed: Pair

    @classmethod
    def joined(cls, blocks: "list[Users]") -> "Users":
        """Those of all blocks."""
        return cls(
            [difference for block in blocks for difference in block.differences],
            _joined([block.expected for block in blocks]),
            _joined([block.found for block in blocks]),
            np.concatenate([block.vectors for block in blocks]),
            np.concatenate([block.terms for block in blocks]),
            _joined([block.listed for block in blocks]),
        )


def _joined(pairs: list[Pair]) -> Pair:
    first, second = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return first, second


def read_users(redis: RedisCaller, ids: Int64Array, events: Events, data: ServingData, dimensions: int) -> Users:
    """Reads users slice by slice of the artefacts: no more of them are Python objects at a time.

    Args:
        redis: what holds them.
        ids: [users] ascending.
        events: accepted since the last load, by user, in order of arrival.
        data: what follows from the artefacts.
        dimensions: of a vector.
    """
    slices = user_slices(users_with_rows())
    blocks = np.split(ids, np.searchsorted(ids, [of.first for of in slices[1:]]))
    read = []
    for of, block in zip_longest(slices, blocks):
        latest = latest_impressions(of=of) if of and len(block) else {}
        for users in np.array_split(block, -(-len(block) // USERS_AT_A_TIME) or 1):
            read.append(_read_block(redis, users, (latest, events), data, dimensions))
    return Users.joined(read)


def _read_block(
    redis: RedisCaller, ids: Int64Array, offline: tuple[Recent, Events], data: ServingData, dimensions: int
) -> Users:
    users, (latest, events) = ids.tolist(), offline
    of_users = {user: latest[user] for user in users if user in latest}
    expected = expected_impressions(of_users, {user: events[user] for user in users if user in events})
    recall, recent = (redis.users(users), redis.recent(users)) if users else ([], [])
    found = dict(zip(users, recent, strict=True))
    listed = [(user, row.itemid) for user, rows in of_users.items() for row in rows[-LISTED_ITEMS:]]
    userid, itemid = np.array(listed, np.int64).reshape(-1, 2).T
    return Users(
        sequence_differences(ids, expected, found),
        sequences_of(ids, expected, data),
        sequences_of(ids, found, data),
        vectors_in_redis(recall, dimensions),
        genre_flags([user.terms if user else () for user in recall], data.features.categories.genres).astype(bool),
        (userid, itemid),
    )
