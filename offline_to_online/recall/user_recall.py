"""Each user's recall data and latest impressions, from the artefacts: what goes into Redis and checks Elasticsearch."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array
from data_exchange_center.columns import Column
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from data_exchange_center.tables import rows_by_key
from data_exchange_center.user_state import newest_rows, rows_between
from online.callers.types import Impression, UserRecall

USER_RECALL_READS = (
    catalogue.USERS,
    catalogue.OFFLINE_IMPRESSIONS,
    catalogue.USER_TERM,
    catalogue.USER_FILTER,
    catalogue.SEQUENCE_USER_VECTORS,
)

Recent = Mapping[int, tuple[Impression, ...]]


def users_to_load(recent: Recent | None = None, vectors: Float32Array | None = None) -> dict[int, UserRecall]:
    """The terms, vector, filter and last impressions of each user with offline rows, by userid.

    Args:
        recent: as from `latest_impressions`, read unless given.
        vectors: [users + 1, dim] by user_index; the served ones unless given.

    Raises:
        ArtefactError: an artefact is missing, or terms and filters were made from different data.
    """
    recent = latest_impressions(RANKER_IMPRESSIONS) if recent is None else recent
    terms, filters = catalogue.USER_TERM.load(), catalogue.USER_FILTER.load()
    userid = terms[Column.USERID].to_numpy()
    users = catalogue.USERS.load([Column.USERID, Column.USER_INDEX])
    index = rows_by_key(users, Column.USERID, userid)[Column.USER_INDEX].to_numpy()
    vectors = catalogue.SEQUENCE_USER_VECTORS.load() if vectors is None else vectors
    return {
        user: UserRecall(tuple(term), tuple(vector), tuple(seen), recent[user][-RANKER_IMPRESSIONS:])
        for user, term, vector, seen in zip(
            userid.tolist(),
            terms[Column.TERMS].to_pylist(),
            vectors[index].tolist(),
            filters[Column.SEEN_ITEMS].to_pylist(),
            strict=True,
        )
    }


def latest_impressions(length: int = TOWER_IMPRESSIONS) -> dict[int, tuple[Impression, ...]]:
    """The last offline impressions of each user that has any, oldest first: what live events move on."""
    table = catalogue.OFFLINE_IMPRESSIONS.load([Column.USERID, Column.ITEMID, Column.RATING, Column.TIMESTAMP])
    users, starts, ends = newest_rows(table[Column.USERID].to_numpy(), length)
    _, rows = rows_between(starts, ends)  # only these become Python objects
    itemid, rating, timestamp = (
        table[name].to_numpy()[rows] for name in (Column.ITEMID, Column.RATING, Column.TIMESTAMP)
    )
    # As people wrote it: the shortest decimals, 0.3 and not the 0.30000001192092896 that single precision holds.
    ratings = pa.array(rating).cast(pa.string()).cast(pa.float64())
    columns = itemid.tolist(), ratings.to_pylist(), timestamp.tolist()
    impressions = [Impression(*values) for values in zip(*columns, strict=True)]
    bounds = [0, *np.cumsum(ends - starts).tolist()]
    return {
        user: tuple(impressions[start:end])
        for user, start, end in zip(users.tolist(), bounds[:-1], bounds[1:], strict=True)
    }
