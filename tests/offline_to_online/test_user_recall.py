"""Establishes that each user's latest impressions and recall data are those of their rows."""

import numpy as np
import pytest

from data_exchange_center import catalogue
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from offline_to_online.recall import user_recall
from offline_to_online.recall.user_recall import (
    latest_impressions,
    sampled_users,
    user_slices,
    users_to_load,
    users_with_rows,
)
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


@pytest.mark.parametrize("size", [100, 10**6])
def test_slices_are_all_users_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_recall, "ROWS_AT_A_TIME", 7001)  # so that blocks of rows end amid users
    loaded, recent = {}, {}
    slices = user_slices(users_with_rows(), size)
    for of in slices:
        own = latest_impressions(of=of)
        assert len(own) <= size and min(own) == of.first and not own.keys() & recent.keys()
        recent |= own
        loaded |= users_to_load(own, of=of)
    assert recent == latest_impressions() and loaded == users_to_load()


def test_a_sample_of_users_is_of_the_rows_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_recall, "USERS_TO_SAMPLE_FROM", 50)
    users = list(users_to_load().values())
    rows = np.array([0, 3, 49, 50, 149, len(users) - 1])
    found = sampled_users(rows)
    assert [(user.terms, user.vector, user.seen) for user in found] == [
        (users[row].terms, users[row].vector, users[row].seen) for row in rows
    ]
