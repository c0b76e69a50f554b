"""Establishes that the loader notices a damaged item in Elasticsearch, and a search that misses too much."""

from collections.abc import Iterator

import numpy as np
import pytest
from elasticsearch import Elasticsearch

from data_exchange_center.serving_names import (
    ES_CELLS,
    ES_GENRES,
    ES_ITEMID,
    ES_POPULARITY,
    ES_SIMILAR,
    ES_UNSEARCHED_VECTOR,
    ES_VECTOR,
    ES_YEAR,
)
from data_exchange_center.settings import Settings
from data_exchange_center.vector_cells import VectorCells
from data_exchange_center.vocabularies import GENRES
from offline_to_online.loader import LoadError
from offline_to_online.recall import item_cells, item_index
from offline_to_online.recall.s2_item_to_es import cells_of
from offline_to_online.recall.user_recall import users_to_load
from online.callers.es_caller import ElasticsearchCaller, elasticsearch_client
from tests.conftest import Stack

Index = tuple[Elasticsearch, str, list[item_index.ItemDocument]]


def test_a_document_has_the_fields_of_the_index() -> None:
    fields = {ES_ITEMID, ES_GENRES, ES_VECTOR, ES_POPULARITY, ES_SIMILAR, ES_YEAR}
    assert set(item_index.ItemDocument.__annotations__) == fields


@pytest.fixture
def index(served: Stack) -> Iterator[Index]:
    """A filled index that nothing serves: to be damaged."""
    client = elasticsearch_client(Settings(), 30)
    content = item_index.item_documents()
    item_index.create_index(client, "damaged", len(content[0]["vector"]))
    item_index.fill_index(client, "damaged", content)
    yield client, "damaged", content
    client.indices.delete(index="damaged", ignore_unavailable=True)
    client.close()


def test_a_document_that_differs_is_named(index: Index) -> None:
    client, name, content = index
    item_index.check_documents(client, name, content, GENRES, np.arange(len(content)))
    victim = content[100]
    vector = [value + 1e-3 for value in victim["vector"]]
    client.index(index=name, id=victim["itemid"], document={**victim, "vector": vector}, refresh=True)
    item_index.check_documents(client, name, content, GENRES, np.arange(100))
    for checked in (np.arange(90, 110), np.arange(len(content))):
        with pytest.raises(LoadError, match=f"item {victim['itemid']}"):
            item_index.check_documents(client, name, content, GENRES, checked)


def test_a_neighbour_that_differs_is_named(index: Index) -> None:
    client, name, content = index
    victim = content[40]
    similar = {**victim["similar"], "itemids": victim["similar"]["itemids"][::-1]}
    client.index(index=name, id=victim["itemid"], document={**victim, "similar": similar}, refresh=True)
    with pytest.raises(LoadError, match=f"item {victim['itemid']}"):
        item_index.check_documents(client, name, content, GENRES, np.arange(40, 41))


def test_an_approximate_search_is_near_exact_or_is_refused(served: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a catalogue above EXACT_SEARCH_UP_TO items gets, its cells fitted to other users than search."""
    monkeypatch.setattr(item_cells, "CELLS", 40)
    monkeypatch.setattr(item_cells, "ITEMS_OF_A_CELL", 500)
    client, caller = elasticsearch_client(Settings(), 30), ElasticsearchCaller(Settings(), 30)
    content, users = item_index.item_documents(), list(users_to_load().values())
    users, others = users[:50], users[50:]
    cells = cells_of(content, others, Settings(exact_search_up_to=0))
    assert cells is not None
    unsearched = [document["itemid"] for row, document in enumerate(content) if not cells.of(row)]
    try:
        item_index.create_index(client, "cells", len(content[0]["vector"]), cells)
        item_index.fill_index(client, "cells", content, cells)
        item_index.check_documents(client, "cells", content, GENRES, np.arange(len(content)), cells)
        assert item_index.check_nearest(caller, "cells", content, users) >= item_index.LEAST_OVERLAP
        other = [{**document, "vector": document["vector"][::-1]} for document in content]
        with pytest.raises(LoadError, match="not the inner products"):
            item_index.check_nearest(caller, "cells", other, users)

        assert unsearched  # these, too, are read back
        victim = next(document for document in content if document["itemid"] == unsearched[0])
        altered = {**victim, ES_CELLS: [], ES_UNSEARCHED_VECTOR: victim["vector"] + 1}
        del altered[ES_VECTOR]
        client.index(index="cells", id=unsearched[0], document=altered, refresh=True)
        with pytest.raises(LoadError, match=f"item {unsearched[0]}"):
            item_index.check_documents(client, "cells", content, GENRES, np.arange(len(content)), cells)

        nearest = VectorCells.nearest
        monkeypatch.setattr(VectorCells, "nearest", lambda self, vector: nearest(self, -vector))  # the wrong cells
        with pytest.raises(LoadError, match=f"less than 0.98: set EXACT_SEARCH_UP_TO to at least {len(content)}"):
            item_index.check_nearest(caller, "cells", content, users)
    finally:
        client.indices.delete(index="cells", ignore_unavailable=True)
        client.close()
        caller.close()


def test_a_missing_and_a_foreign_document_are_named(index: Index) -> None:
    client, name, content = index
    victim = content[7]
    client.delete(index=name, id=victim["itemid"], refresh=True)
    with pytest.raises(LoadError, match=f"holds None for item {victim['itemid']}"):
        item_index.check_documents(client, name, content, GENRES, np.arange(len(content)))
    with pytest.raises(LoadError, match=f"not loaded: .*{content[8]['itemid']}"):
        others = [document for row, document in enumerate(content) if row not in (7, 8)]
        item_index.check_documents(client, name, others, GENRES, np.arange(len(others)))
    with pytest.raises(LoadError, match=f"holds {len(content) - 1} items, but {len(content)} were loaded"):
        item_index.check_documents(client, name, content, GENRES, np.arange(8, 20))
