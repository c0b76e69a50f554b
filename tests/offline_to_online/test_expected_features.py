"""Establishes what Feast must hold after events: users in order of id, and the window of all rows and events."""

import numpy as np
import pandas as pd
import pytest

from data_exchange_center import catalogue
from data_exchange_center.user_state import WINDOW
from data_exchange_center.vocabularies import GENRES, slugs
from offline_to_online.rank.expected_features import Events, expected_features
from online.callers.types import Impression
from testkit.dataset import FEATURES
from tests.conftest import Offline

pytestmark = pytest.mark.usefixtures("artefacts")


def test_without_events_the_features_are_those_of_the_artefacts() -> None:
    for entity, artefact in (("user", catalogue.USER_FEATURES), ("item", catalogue.ITEM_FEATURES)):
        table = artefact.load()
        assert expected_features(entity, {}).to_pydict() == table.to_pydict()  # type: ignore[arg-type]


def test_a_new_user_between_known_users_stands_in_order() -> None:
    """Whoever pairs users with rows relies on it; the new user's profile is zeros."""
    known = catalogue.USER_FEATURES.load()["userid"].to_numpy()
    new = int(np.setdiff1d(np.arange(known[0], known[-1]), known)[0])
    item = catalogue.ITEM_FEATURES.load().to_pylist()[0]
    table = expected_features("user", {new: (Impression(item["itemid"], 5.0, 1),)})
    ids = table["userid"].to_numpy()
    assert len(ids) == len(known) + 1 and (np.diff(ids) > 0).all()
    row = table.slice(int(np.searchsorted(ids, new)), 1).to_pylist()[0]
    genres = {name.removeprefix("genre_") for name, value in item.items() if name.startswith("genre_") and value}
    assert {name for name, value in row.items() if value} - {"userid"} == {
        f"{count}_{genre}" for genre in genres for count in ("imp", "clk")
    }


def slow_history(rows: list[Impression], genres: dict[int, list[str]]) -> dict[str, int]:
    """The counts over the last WINDOW of `rows`, in order; Python's sort is stable."""
    window = sorted(rows, key=lambda row: row.timestamp)[-WINDOW:]
    counts = {}
    for genre, slug in zip(GENRES, slugs(GENRES), strict=True):
        shown = [row for row in window if genre in genres[row.itemid]]
        counts[f"imp_{slug}"] = len(shown)
        counts[f"clk_{slug}"] = sum(row.rating > 3 for row in shown)
    return counts


def test_events_give_the_window_of_all_rows_and_events(artefacts: Offline) -> None:
    """Against a slow count, with events older than offline rows and events of the same second among them."""
    rng = np.random.default_rng(0)
    impressions = catalogue.OFFLINE_IMPRESSIONS.load().to_pandas()
    items = catalogue.ITEMS.load()
    genres = dict(zip(items["itemid"].to_pylist(), items["genres"].to_pylist(), strict=True))
    users = [int(user) for user in rng.permutation(impressions["userid"].unique())[:20]] + [999_999_999]
    rows: dict[int, list[Impression]] = {}
    events: dict[int, tuple[Impression, ...]] = {}
    for user in users:
        own: pd.DataFrame = impressions[impressions["userid"] == user]
        rows[user] = [
            Impression(int(i), float(r), int(t))
            for i, r, t in zip(own["itemid"], own["rating"], own["timestamp"], strict=True)
        ]
        times = own["timestamp"].to_numpy()[-5:] if len(own) else np.array([7])
        events[user] = tuple(
            Impression(int(rng.choice(items["itemid"].to_numpy())), float(rng.integers(1, 6)), int(rng.choice(times)))
            for _ in range(int(rng.integers(1, 14)))
        )
    accepted: Events = events
    table = expected_features("user", accepted).to_pandas().set_index("userid")
    for user in users:
        expected = slow_history([*rows[user], *events[user]], genres)
        assert table.loc[user, list(FEATURES.history_counts)].to_dict() == expected, user
    untouched = catalogue.USER_FEATURES.load().to_pandas().set_index("userid").drop(users[:-1])
    pd.testing.assert_frame_equal(table.drop(users), untouched, check_dtype=False)
