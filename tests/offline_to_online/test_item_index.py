"""Establishes that the loader notices a damaged item in Elasticsearch, and that a graph of vectors is near exact."""

from collections.abc import Iterator

import numpy as np
import pytest
from elasticsearch import Elasticsearch

from data_exchange_center.serving_names import ES_GENRES, ES_ITEMID, ES_POPULARITY, ES_VECTOR
from data_exchange_center.settings import Settings
from data_exchange_center.vocabularies import GENRES
from offline_to_online.loader import LoadError
from offline_to_online.recall import item_index
from offline_to_online.recall.user_recall import users_to_load
from online.callers import es_caller
from online.callers.es_caller import ElasticsearchCaller, elasticsearch_client
from tests.conftest import Stack

Index = tuple[Elasticsearch, str, list[item_index.ItemDocument]]


def test_a_document_has_the_fields_of_the_index() -> None:
    assert set(item_index.ItemDocument.__annotations__) == {ES_ITEMID, ES_GENRES, ES_VECTOR, ES_POPULARITY}


@pytest.fixture
def index(served: Stack) -> Iterator[Index]:
    """A filled index that nothing serves: to be damaged."""
    client = elasticsearch_client(Settings(), 30)
    content = item_index.item_documents()
    item_index.create_index(client, "damaged", len(content[0]["vector"]), len(content))
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


def test_a_graph_of_vectors_is_near_exact_too(served: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a catalogue above EXACT_SEARCH_UP_TO items gets; its check fails on other vectors than were loaded."""
    monkeypatch.setattr(item_index, "EXACT_SEARCH_UP_TO", 0)
    monkeypatch.setattr(es_caller, "EXACT_SEARCH_UP_TO", 0)
    client = elasticsearch_client(Settings(), 30)
    content, users = item_index.item_documents(), list(users_to_load().values())[:50]
    caller = ElasticsearchCaller(Settings(), 30)
    try:
        item_index.create_index(client, "graph", len(content[0]["vector"]), len(content))
        item_index.fill_index(client, "graph", content)
        assert item_index.check_nearest(caller, "graph", content, users) >= item_index.LEAST_OVERLAP
        other = [{**document, "vector": document["vector"][::-1]} for document in content]
        with pytest.raises(LoadError):
            item_index.check_nearest(caller, "graph", other, users)
    finally:
        client.indices.delete(index="graph", ignore_unavailable=True)
        client.close()
        caller.close()


def test_a_missing_and_a_foreign_document_are_named(index: Index) -> None:
    client, name, content = index
    victim = content[7]
    client.delete(index=name, id=victim["itemid"], refresh=True)
    with pytest.raises(LoadError, match=f"holds None for item {victim['itemid']}"):
        item_index.check_documents(client, name, content, GENRES, np.arange(len(content)))
    with pytest.raises(LoadError, match=f"not loaded: .*{content[8]['itemid']}"):
        others = [document for document in content if document not in (victim, content[8])]
        item_index.check_documents(client, name, others, GENRES, np.arange(len(others)))
    with pytest.raises(LoadError, match=f"holds {len(content) - 1} items, but {len(content)} were loaded"):
        item_index.check_documents(client, name, content, GENRES, np.arange(8, 20))
