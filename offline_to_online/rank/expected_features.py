"""The features that Feast must hold: those of the artefacts, and for users with live events the window after them.

The window after the events is counted from scratch over all of the user's rows and events, in whole columns, as
preprocessing counts it; the server moved it event by event. The consistency check compares the two.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.arrays import Int64Array, UInt8Array
from data_exchange_center.columns import Column
from data_exchange_center.features import JOIN_KEYS, Entity
from data_exchange_center.limits import TOWER_IMPRESSIONS
from data_exchange_center.tables import from_matrix, rows_by_key, to_matrix
from data_exchange_center.user_state import newest_windows
from offline_to_online.recall.user_recall import Recent
from online.callers.types import Impression

READS = (catalogue.DATASET, catalogue.USER_FEATURES, catalogue.ITEM_FEATURES, catalogue.OFFLINE_IMPRESSIONS)

Events = Mapping[int, tuple[Impression, ...]]

_ROW = (Column.USERID, Column.ITEMID, Column.TIMESTAMP, Column.LABEL)


def expected_features(entity: Entity, events: Events) -> pa.Table:
    """The id and the features of each user or item, ascending by id, as int64.

    Args:
        entity: which of the two.
        events: accepted since the last load, by user, in order of arrival. A user that the artefacts do not know has
            the profile of an unknown user, which is zeros.
    """
    table = (catalogue.USER_FEATURES if entity == "user" else catalogue.ITEM_FEATURES).load()
    features = catalogue.DATASET.load().features
    names = features.entity_columns(entity)
    ids, values = table[JOIN_KEYS[entity]].to_numpy(), to_matrix(table, names, np.int64)
    if entity == "user" and events:
        new = np.setdiff1d(np.fromiter(events, np.int64), ids)
        by_id = np.argsort(np.r_[ids, new])
        ids, values = np.r_[ids, new][by_id], np.pad(values, ((0, len(new)), (0, 0)))[by_id]
        users = np.array(sorted(events), np.int64)
        values[np.searchsorted(ids, users)[:, None], features.history_places] = _windows_after(users, events)
    return pa.table({JOIN_KEYS[entity]: ids, **from_matrix(names, values)})


def _windows_after(users: Int64Array, events: Events) -> UInt8Array:
    """[users, 36] the newest window of each of these users (ascending), over offline rows and events."""
    dataset = catalogue.DATASET.load()
    offline = catalogue.OFFLINE_IMPRESSIONS.load(_ROW)
    offline_rows = to_matrix(offline.filter(np.isin(offline[Column.USERID].to_numpy(), users)), _ROW, np.int64)
    live_rows = [
        (user, event.itemid, event.timestamp, bool(dataset.scale.are_positive([event.rating])[0]))
        for user in users.tolist()
        for event in events[user]
    ]
    rows = np.concatenate([offline_rows, np.array(live_rows, np.int64).reshape(-1, len(_ROW))])
    userid, itemid, _, label = rows[np.lexsort((rows[:, 2], rows[:, 0]))].T  # stable: file order, then arrival
    items = rows_by_key(catalogue.ITEM_FEATURES.load(), Column.ITEMID, itemid)
    return newest_windows(userid, to_matrix(items, dataset.features.genre_flags), label, users)


def expected_impressions(latest: Recent, events: Events) -> dict[int, tuple[Impression, ...]]:
    """The last impressions of each user over offline rows and events, oldest first, as Redis must hold them.

    Args:
        latest: the last TOWER_IMPRESSIONS of the offline rows, by user.
        events: accepted since the last load, by user, in order of arrival.
    """
    expected = dict(latest)
    for user, of_user in events.items():
        in_order = sorted((*expected.get(user, ()), *of_user), key=lambda impression: impression.timestamp)
        expected[user] = tuple(in_order[-TOWER_IMPRESSIONS:])
    return expected
