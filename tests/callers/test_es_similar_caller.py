"""Establishes that Elasticsearch gives each item's neighbours as the artefact has them, of the load asked for."""

import numpy as np
import pytest
import requests

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.serving_load import load_digest
from data_exchange_center.serving_names import ES_ALIAS
from data_exchange_center.settings import Settings
from data_exchange_center.similar_items import NEIGHBOURS
from offline_to_online.loader import LoadError
from offline_to_online.recall.item_neighbours import StoredNeighbours, check_neighbours
from online.callers.es_similar_caller import SimilarItemsCaller
from online.callers.types import ServiceUnavailable, StoreFault
from tests.conftest import Stack


def test_the_neighbours_are_those_of_the_artefact(served: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, load = SimilarItemsCaller(Settings(), 10), load_digest()
    rows = catalogue.SIMILAR_ITEMS.load().to_pylist()
    assert (
        len(rows) == len(catalogue.ITEMS.load()) and max(len(row[Column.SIMILAR_ITEMS]) for row in rows) == NEIGHBOURS
    )
    for row in rows[::50]:
        found = caller.similar(row[Column.ITEMID], load)
        assert [itemid for itemid, _ in found] == row[Column.SIMILAR_ITEMS]
        assert [score for _, score in found] == pytest.approx(row[Column.SIMILAR_SCORES])
        assert row[Column.SIMILAR_SCORES] == sorted(row[Column.SIMILAR_SCORES], reverse=True)
        assert row[Column.ITEMID] not in row[Column.SIMILAR_ITEMS]
    with pytest.raises(StoreFault, match="no item 123456789 of the load"):
        caller.similar(123456789, load)
    with pytest.raises(StoreFault, match="of the load another"):
        caller.similar(rows[0][Column.ITEMID], "another")
    row = rows[0]
    stored = StoredNeighbours(
        itemids=np.array(row[Column.SIMILAR_ITEMS]), scores=np.array(row[Column.SIMILAR_SCORES], np.float32)
    )
    check_neighbours(caller, ES_ALIAS, load, {row[Column.ITEMID]: stored})
    with pytest.raises(LoadError, match=f"beside item {row[Column.ITEMID]}"):
        damaged = StoredNeighbours(itemids=stored["itemids"], scores=stored["scores"] * np.float32(1.001))
        check_neighbours(caller, ES_ALIAS, load, {row[Column.ITEMID]: damaged})
    caller.close()
    monkeypatch.setenv("ES_PORT", "1")
    with pytest.raises(ServiceUnavailable, match="elasticsearch"):
        SimilarItemsCaller(Settings(), 1).similar(rows[0][Column.ITEMID], load)


def test_the_server_lists_them_and_the_blend_gains_over_popularity(served: Stack) -> None:
    row = max(catalogue.SIMILAR_ITEMS.load().to_pylist(), key=lambda row: len(row[Column.SIMILAR_ITEMS]))
    response = requests.get(f"{served.url}/similar", {"itemid": row[Column.ITEMID], "size": 50}, timeout=5)
    assert [item["itemid"] for item in response.json()["items"]] == row[Column.SIMILAR_ITEMS][:50]
    assert "degraded" not in response.json() and "elasticsearch;dur=" in response.headers["Server-Timing"]
    metrics = catalogue.SIMILAR_ITEMS_METRICS.load()
    gain = metrics.popularity.gain_interval
    assert gain is not None and gain[0] > 0
    assert metrics.blend.recall >= metrics.co_popularity.recall > metrics.popularity.recall
