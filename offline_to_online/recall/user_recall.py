"""Each user's recall data and latest impressions, from the artefacts: what goes into Redis and checks Elasticsearch."""

import numpy as np

from data_exchange_center import catalogue
from data_exchange_center.columns import ITEMID, ITEMS, RATING, TERMS, TIMESTAMP, USER_INDEX, USERID
from data_exchange_center.genre_history import WINDOW
from offline_to_online.loading import LoadError
from online.callers.types import Impression, UserRecall

USER_RECALL_READS = (catalogue.USERS, catalogue.USER_TERM, catalogue.USER_FILTER, catalogue.USER_VECTORS)


def users_to_load(user_vectors: catalogue.Artefact = catalogue.USER_VECTORS) -> dict[int, UserRecall]:
    """The terms, vector and filter of each user with offline rows, by userid.

    Args:
        user_vectors: the served ones, or others to compare them with.

    Raises:
        LoadError: terms and filters were made from different data.
    """
    users, terms, filters = (
        catalogue.load_table(a) for a in (catalogue.USERS, catalogue.USER_TERM, catalogue.USER_FILTER)
    )
    userid = terms[USERID].to_numpy()
    if not np.array_equal(userid, filters[USERID].to_numpy()):
        raise LoadError("user_term and user_filter hold other users: run offline/recall/s1_term_recall.py again.")
    index = users[USER_INDEX].to_numpy()[np.searchsorted(users[USERID].to_numpy(), userid)]
    vectors = catalogue.load_array(user_vectors)[index]
    return {
        user: UserRecall(tuple(term), tuple(vector), tuple(seen))
        for user, term, vector, seen in zip(
            userid.tolist(), terms[TERMS].to_pylist(), vectors.tolist(), filters[ITEMS].to_pylist(), strict=True
        )
    }


def latest_impressions() -> dict[int, tuple[Impression, ...]]:
    """The last WINDOW offline impressions of each user that has any, oldest first: what live events move on."""
    table = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS, [USERID, ITEMID, RATING, TIMESTAMP])
    users, first = np.unique(table[USERID].to_numpy(), return_index=True)
    ends = np.r_[first[1:], len(table)]
    starts = np.maximum(first, ends - WINDOW)
    # Only the rows of the windows become Python objects.
    rows = np.repeat(ends - np.cumsum(ends - starts), ends - starts) + np.arange((ends - starts).sum())
    columns = (table[name].to_numpy()[rows].tolist() for name in (ITEMID, RATING, TIMESTAMP))
    impressions = [Impression(*values) for values in zip(*columns, strict=True)]
    cuts = np.r_[0, np.cumsum(ends - starts)].tolist()
    return {
        user: tuple(impressions[begin:end]) for user, begin, end in zip(users.tolist(), cuts, cuts[1:], strict=False)
    }
