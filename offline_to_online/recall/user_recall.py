"""Each user's recall data and latest impressions, from the artefacts: what goes into Redis and checks Elasticsearch.

All users at once, or those of a slice, so that a process holds no more of a large data set than it is at work on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array, Int64Array
from data_exchange_center.columns import Column
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from data_exchange_center.tables import rows_by_key
from data_exchange_center.user_state import newest_rows, rows_between
from online.callers.types import Impression, UserRecall

SAMPLED_USERS_READS = (
    catalogue.USERS,
    catalogue.USER_TERM,
    catalogue.USER_FILTER,
    catalogue.SEQUENCE_USER_VECTORS,
)
USER_RECALL_READS = (catalogue.OFFLINE_IMPRESSIONS, *SAMPLED_USERS_READS)

USERS_OF_A_SLICE = 5000  # as Python objects up to 100 MB
ROWS_AT_A_TIME = 1 << 22  # of the impressions, whose users are counted
USERS_TO_SAMPLE_FROM = 50_000  # at a time

Recent = Mapping[int, tuple[Impression, ...]]


@dataclass(frozen=True)
class UserSlice:
    """Consecutive users with offline rows.

    Attributes:
        users: [start, end), rows of USER_TERM and USER_FILTER.
        impressions: [start, end), rows of OFFLINE_IMPRESSIONS: all of theirs.
        first: the first one's id.
    """

    users: tuple[int, int]
    impressions: tuple[int, int]
    first: int


def users_with_rows() -> Int64Array:
    """[users] the ids of the users with offline rows, ascending."""
    userids: Int64Array = catalogue.USER_TERM.load([Column.USERID])[Column.USERID].to_numpy()
    return userids


def user_slices(userids: Int64Array, size: int = USERS_OF_A_SLICE) -> list[UserSlice]:
    """Slices of `size` users, in order.

    Args:
        userids: as from `users_with_rows`.
        size: of each slice but the last.
    """
    starts = np.arange(0, len(userids), size)
    firsts, rows = userids[starts], catalogue.OFFLINE_IMPRESSIONS.stored().rows
    before = np.zeros(len(starts), np.int64)  # impressions of the users before each slice
    for start in range(0, rows, ROWS_AT_A_TIME):
        block = catalogue.OFFLINE_IMPRESSIONS.load([Column.USERID], (start, start + ROWS_AT_A_TIME))
        before += np.searchsorted(block[Column.USERID].to_numpy(), firsts)
    bounds = [*zip(starts.tolist(), before.tolist(), strict=True), (len(userids), rows)]
    return [
        UserSlice((start, end), (row, row_after), first)
        for (start, row), (end, row_after), first in zip(bounds[:-1], bounds[1:], firsts.tolist(), strict=True)
    ]


def users_to_load(
    recent: Recent | None = None, vectors: Float32Array | None = None, of: UserSlice | None = None
) -> dict[int, UserRecall]:
    """The terms, vector, filter and last impressions of each user with offline rows, by userid.

    Args:
        recent: as from `latest_impressions`, read unless given.
        vectors: [users + 1, dim] by user_index; the served ones unless given.
        of: whose; all users' unless given.

    Raises:
        ArtefactError: an artefact is missing, or terms and filters were made from different data.
    """
    recent = latest_impressions(RANKER_IMPRESSIONS, of) if recent is None else recent
    vectors = catalogue.SEQUENCE_USER_VECTORS.load(mapped=of is not None) if vectors is None else vectors
    if of is None:
        terms, filters = catalogue.USER_TERM.load(), catalogue.USER_FILTER.load()
    else:
        terms, filters = (table.load(rows=of.users) for table in (catalogue.USER_TERM, catalogue.USER_FILTER))
    return _users(terms, filters, vectors, recent)


def sampled_users(rows: Int64Array) -> list[UserRecall]:
    """As `users_to_load`, without the last impressions, of some rows of USER_TERM, ascending."""
    vectors = catalogue.SEQUENCE_USER_VECTORS.load(mapped=True)
    users: list[UserRecall] = []
    for start in range(0, int(rows.max(initial=-1)) + 1, USERS_TO_SAMPLE_FROM):
        end = start + USERS_TO_SAMPLE_FROM
        own = pa.array(rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)] - start)
        if len(own):
            terms, filters = (
                table.load(rows=(start, end)).take(own) for table in (catalogue.USER_TERM, catalogue.USER_FILTER)
            )
            users += _users(terms, filters, vectors, None).values()
    return users


def _users(terms: pa.Table, filters: pa.Table, vectors: Float32Array, recent: Recent | None) -> dict[int, UserRecall]:
    userid = terms[Column.USERID].to_numpy()
    users = catalogue.USERS.load([Column.USERID, Column.USER_INDEX])
    index = rows_by_key(users, Column.USERID, userid)[Column.USER_INDEX].to_numpy()
    return {
        user: UserRecall(
            tuple(term), tuple(vector), tuple(seen), () if recent is None else recent[user][-RANKER_IMPRESSIONS:]
        )
        for user, term, vector, seen in zip(
            userid.tolist(),
            terms[Column.TERMS].to_pylist(),
            vectors[index].tolist(),
            filters[Column.SEEN_ITEMS].to_pylist(),
            strict=True,
        )
    }


def latest_impressions(
    length: int = TOWER_IMPRESSIONS, of: UserSlice | None = None
) -> dict[int, tuple[Impression, ...]]:
    """The last offline impressions of each user that has any, oldest first: what live events move on.

    Args:
        length: how many at most.
        of: whose; all users' unless given.
    """
    columns = [Column.USERID, Column.ITEMID, Column.RATING, Column.TIMESTAMP]
    impressions = catalogue.OFFLINE_IMPRESSIONS
    table = impressions.load(columns, None if of is None else of.impressions)
    users, starts, ends = newest_rows(table[Column.USERID].to_numpy(), length)
    _, rows = rows_between(starts, ends)  # only these become Python objects
    itemid, rating, timestamp = (
        table[name].to_numpy()[rows] for name in (Column.ITEMID, Column.RATING, Column.TIMESTAMP)
    )
    # As people wrote it: the shortest decimals, 0.3 and not the 0.30000001192092896 that single precision holds.
    ratings = pa.array(rating).cast(pa.string()).cast(pa.float64())
    values = zip(itemid.tolist(), ratings.to_pylist(), timestamp.tolist(), strict=True)
    latest = [Impression(*of_row) for of_row in values]
    bounds = [0, *np.cumsum(ends - starts).tolist()]
    return {
        user: tuple(latest[start:end]) for user, start, end in zip(users.tolist(), bounds[:-1], bounds[1:], strict=True)
    }
