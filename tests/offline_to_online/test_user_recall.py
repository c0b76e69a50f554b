"""Establishes that each user's latest impressions and recall data are those of their rows."""

import numpy as np
import pytest

from data_exchange_center import catalogue
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from offline_to_online.recall.user_recall import latest_impressions, users_to_load
from online.callers.types import Impression

pytestmark = pytest.mark.usefixtures("artefacts")


def test_latest_impressions_are_the_last_rows_of_each_user() -> None:
    table = catalogue.OFFLINE_IMPRESSIONS.load().to_pandas()
    expected = {
        int(user): tuple(
            Impression(int(i), float(r), int(t))
            for i, r, t in zip(rows["itemid"], rows["rating"], rows["timestamp"], strict=True)
        )
        for user, rows in table.groupby("userid").tail(TOWER_IMPRESSIONS).groupby("userid")
    }
    assert latest_impressions() == expected


def test_each_user_gets_their_own_vector_terms_and_filter() -> None:
    users = catalogue.USERS.load()
    index = dict(zip(users["userid"].to_pylist(), users["user_index"].to_pylist(), strict=True))
    terms = dict(zip(*catalogue.USER_TERM.load().to_pydict().values(), strict=True))
    seen = dict(zip(*catalogue.USER_FILTER.load().to_pydict().values(), strict=True))
    vectors, recent = catalogue.SEQUENCE_USER_VECTORS.load(), latest_impressions()
    loaded = users_to_load()
    assert set(loaded) == set(terms) == set(seen)
    for userid, user in loaded.items():
        assert (list(user.terms), list(user.seen)) == (terms[userid], seen[userid])
        np.testing.assert_array_equal(np.float32(user.vector), vectors[index[userid]])
        assert user.recent == recent[userid][-RANKER_IMPRESSIONS:]
