"""The features that Feast must hold: the artefacts', and for users with live events those of the window after them.

The window after the events is counted from all of the user's rows and events anew, in whole columns, as preprocessing
does; the server moved it event by event.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.columns import ITEMID, LABEL, POSITIVE_ABOVE, TIMESTAMP, USERID
from data_exchange_center.features import GENRE_FLAGS, HISTORY_COUNTS, JOIN_KEYS, Entity, entity_columns
from data_exchange_center.genre_history import window_counts
from online.callers.types import Impression

READS = (catalogue.USER_FEATURES, catalogue.ITEM_FEATURES, catalogue.OFFLINE_IMPRESSIONS)

Events = Mapping[int, tuple[Impression, ...]]


def expected_features(entity: Entity, events: Events) -> pa.Table:
    """The id and the features of each user or item, by id, int64.

    Args:
        entity: which.
        events: accepted since the last load, by user, in order of arrival. A user that the artefacts do not know
            comes with the demographics of an unknown one.
    """
    artefact = catalogue.USER_FEATURES if entity == "user" else catalogue.ITEM_FEATURES
    table = catalogue.load_table(artefact)
    names = (JOIN_KEYS[entity], *entity_columns(entity))
    features = {name: table[name].to_numpy().astype(np.int64) for name in names}
    if entity == "user" and events:
        new = np.setdiff1d(list(events), features[USERID])
        by_id = np.argsort(np.r_[features[USERID], new])
        features = {
            name: np.r_[column, new if name == USERID else np.zeros_like(new)][by_id]
            for name, column in features.items()
        }
        users = np.array(sorted(events), np.int64)
        rows = np.searchsorted(features[USERID], users)
        for name, counts in zip(HISTORY_COUNTS, _counts_after(users, events).T, strict=True):
            features[name][rows] = counts
    return pa.table(features)


def _counts_after(users: npt.NDArray[np.int64], events: Events) -> npt.NDArray[np.uint8]:
    """[users, 36] the newest window of each user (sorted), over offline rows and events."""
    offline = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS, [USERID, ITEMID, TIMESTAMP, LABEL])
    mine = np.isin(offline[USERID].to_numpy(), users)
    rated = [offline[name].to_numpy()[mine].astype(np.int64) for name in (USERID, ITEMID, TIMESTAMP, LABEL)]
    live = [
        (user, event.itemid, event.timestamp, event.rating > POSITIVE_ABOVE)
        for user in users.tolist()
        for event in events[user]
    ]
    rows = np.concatenate([np.stack(rated, axis=1), np.array(live, np.int64).reshape(-1, 4)])
    rows = rows[np.lexsort((rows[:, 2], rows[:, 0]))]  # stable: of the same second, file order and then arrival
    items = catalogue.load_table(catalogue.ITEM_FEATURES)
    at = np.searchsorted(items[ITEMID].to_numpy(), rows[:, 1])
    flags = np.stack([items[name].to_numpy()[at] for name in GENRE_FLAGS], axis=1)
    starts, ends = (np.searchsorted(rows[:, 0], users, side=side) for side in ("left", "right"))
    return window_counts(flags, rows[:, 3].astype(np.uint8), starts, ends)
