"""The recall data of each user, from the artefacts: what goes into Redis, and what Elasticsearch is checked with."""

import numpy as np

from data_exchange_center import catalogue
from data_exchange_center.columns import ITEMS, TERMS, USER_INDEX, USERID
from offline_to_online.loading import LoadError
from online.callers.types import UserRecall

USER_RECALL_READS = (catalogue.USERS, catalogue.USER_TERM, catalogue.USER_FILTER, catalogue.USER_VECTORS)


def users_to_load() -> dict[int, UserRecall]:
    """The terms, vector and filter of each user with offline rows, by userid.

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
    vectors = catalogue.load_array(catalogue.USER_VECTORS)[index]
    return {
        user: UserRecall(tuple(term), tuple(vector), tuple(seen))
        for user, term, vector, seen in zip(
            userid.tolist(), terms[TERMS].to_pylist(), vectors.tolist(), filters[ITEMS].to_pylist(), strict=True
        )
    }
