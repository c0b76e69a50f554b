"""Establishes that users whom only events know take their place by id: who pairs users with rows relies on it."""

import numpy as np

from data_exchange_center import catalogue
from offline_to_online.rank.expected_features import expected_features
from online.callers.types import Impression
from tests.conftest import Offline


def test_a_stranger_between_known_users_stands_in_order(artefacts: Offline) -> None:
    known = catalogue.load_table(catalogue.USER_FEATURES)["userid"].to_numpy()
    stranger = int(np.setdiff1d(np.arange(known[0], known[-1]), known)[0])
    item = catalogue.load_table(catalogue.ITEM_FEATURES).to_pylist()[0]
    table = expected_features("user", {stranger: (Impression(item["itemid"], 5.0, 1),)})
    ids = table["userid"].to_numpy()
    assert len(ids) == len(known) + 1 and (np.diff(ids) > 0).all()
    row = table.slice(int(np.searchsorted(ids, stranger)), 1).to_pylist()[0]
    genres = {name.removeprefix("genre_") for name, value in item.items() if name.startswith("genre_") and value}
    assert {name for name, value in row.items() if value} - {"userid"} == {
        f"{count}_{genre}" for genre in genres for count in ("imp", "clk")
    }
