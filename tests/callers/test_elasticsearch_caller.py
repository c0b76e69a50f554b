"""Establishes that recall from the real Elasticsearch comes on the inner product's scale, unseen and in its order."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.artefact_backends import ArtefactRecallIndex
from data_exchange_center import catalogue, vector_cells
from data_exchange_center.elasticsearch_scores import TERM_BONUS
from data_exchange_center.limits import RECALL_SIZE, VECTOR_RECALL_SIZE
from data_exchange_center.serving_load import load_digest
from data_exchange_center.serving_names import ES_ALIAS, ES_INDEX_OF_LOAD
from data_exchange_center.settings import Settings
from offline_to_online.recall import item_cells
from offline_to_online.recall.item_index import create_index, fill_index, item_documents, stored_vectors, switch_alias
from offline_to_online.recall.s2_item_to_es import cells_of
from offline_to_online.recall.user_recall import users_to_load
from online.callers.es_caller import ElasticsearchCaller, SearchedIndex, elasticsearch_client, recall_query
from online.callers.types import ItemFilter, ServiceUnavailable, StoreFault, UserRecall
from online.serving_data import ServingData
from tests.conftest import Stack
from tests.online.stand_ins import DATA

USER = UserRecall(("Drama",), (1.0, 2.0), (5, 3))


def products(user: UserRecall) -> dict[int, float]:
    """The inner product of the user's vector with each item's."""
    items = catalogue.ITEMS.load()
    vectors = catalogue.SEQUENCE_ITEM_VECTORS.load()[items["item_index"].to_numpy()]
    return dict(zip(items["itemid"].to_pylist(), (vectors @ np.float32(user.vector)).tolist(), strict=True))


@pytest.fixture
def caller(served: Stack) -> ElasticsearchCaller:
    return ElasticsearchCaller(Settings(), 10)


@pytest.fixture
def user(served: Stack) -> UserRecall:
    return next(user for user in users_to_load().values() if user.terms and len(user.seen) > 20)


def test_scores_are_inner_products_with_a_bonus_for_liked_genres(caller: ElasticsearchCaller, user: UserRecall) -> None:
    found, product = caller.search(user), products(user)
    assert len(found) == RECALL_SIZE and found.by_vector.sum() == VECTOR_RECALL_SIZE
    known = np.array([product[item] for item in found.itemids.tolist()])
    floor = found.nearness[found.by_vector].min()
    expected = np.where(found.by_vector, known, floor) + TERM_BONUS * found.by_term
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-4)
    assert not set(found.itemids.tolist()) & set(user.seen)
    assert (found.by_term | found.by_vector).all()


FILTERS = (
    ItemFilter(genres=("Western",)),
    ItemFilter(genres=("Western", "Musical"), genres_out=("Comedy",)),
    ItemFilter(year_from=1990, year_to=1991),
    ItemFilter(genres=("Film-Noir",), year_to=1950),
    ItemFilter(year_from=1900),
    ItemFilter(year_from=2000, year_to=1999),
)


@pytest.mark.parametrize("within", FILTERS)
def test_filters_act_inside_both_queries(caller: ElasticsearchCaller, user: UserRecall, within: ItemFilter) -> None:
    """What the arrays admit is what is found, as many as a list takes; the nearest of them by the vector."""
    table, product = ServingData.load().table, products(user)
    left_out = tuple(table.ids[:50].tolist())
    within = replace(within, left_out=left_out, genres_out=(*within.genres_out, *user.terms[:1]))
    admitted = table.ids[table.admitted(within, user.seen)].tolist()
    found = caller.recall(user, len(admitted), load_digest(), within)
    assert len(found) == min(len(admitted), RECALL_SIZE) and set(found.itemids.tolist()) <= set(admitted)
    nearest = sorted(admitted, key=lambda item: -product[item])[: found.by_vector.sum()]
    assert set(found.itemids[found.by_vector].tolist()) == set(nearest)
    on_arrays = ArtefactRecallIndex(catalogue.SEQUENCE_ITEM_VECTORS.load()).recall(user, len(admitted), "", within)
    assert sorted(on_arrays.itemids.tolist()) == sorted(found.itemids.tolist())
    terms_alone = replace(user, vector=())
    filled = caller.recall(terms_alone, len(admitted), load_digest(), within)
    assert len(filled) == min(len(admitted), RECALL_SIZE) and set(filled.itemids.tolist()) <= set(admitted)


def test_nearness_puts_what_the_vector_found_in_its_own_order(caller: ElasticsearchCaller, user: UserRecall) -> None:
    found, product = caller.search(user), products(user)
    by_nearness = found.itemids[found.by_vector][np.argsort(-found.nearness[found.by_vector], kind="stable")]
    unseen = [item for item in product if item not in user.seen]
    nearest = sorted(unseen, key=lambda item: -product[item])[:VECTOR_RECALL_SIZE]
    in_order = [product[item] for item in by_nearness.tolist()]
    np.testing.assert_allclose(in_order, [product[item] for item in nearest], rtol=1e-5, atol=1e-5)
    assert set(by_nearness.tolist()) == set(nearest)


def test_without_terms_the_vector_finds_everything(caller: ElasticsearchCaller, user: UserRecall) -> None:
    found = caller.search(UserRecall((), user.vector, user.seen))
    assert len(found) == RECALL_SIZE and found.by_vector.all() and not found.by_term.any()
    assert (np.diff(found.scores) <= 0).all()


def test_without_a_vector_the_most_popular_items_of_liked_genres_come(caller: ElasticsearchCaller) -> None:
    found = caller.search(UserRecall(("Western",), (), ()))
    genres = dict(zip(*catalogue.ITEMS.load(["itemid", "genres"]).to_pydict().values(), strict=True))
    positives = dict(zip(*catalogue.POPULAR_ITEMS.load().to_pydict().values(), strict=True))
    westerns = [item for item, names in genres.items() if "Western" in names]
    assert sorted(found.itemids.tolist()) == sorted(westerns) or len(found) == RECALL_SIZE
    assert found.by_term.all() and not found.by_vector.any()
    np.testing.assert_allclose(found.scores, TERM_BONUS, rtol=1e-6)
    popularity = [positives[item] for item in found.itemids.tolist()]
    assert popularity == sorted(popularity, reverse=True)


def test_a_user_who_has_seen_everything_has_no_candidates(caller: ElasticsearchCaller, user: UserRecall) -> None:
    items = tuple(catalogue.ITEMS.load(["itemid"])["itemid"].to_pylist())
    assert len(caller.search(UserRecall(user.terms, user.vector, items))) == 0


def test_a_missing_index_and_a_missing_server_are_unavailable(
    caller: ElasticsearchCaller, user: UserRecall, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller.ping(ServingData.load().expected)
    with pytest.raises(ServiceUnavailable, match="index_not_found"):
        caller.search(user, index="no-such-index")
    monkeypatch.setenv("ES_PORT", "1")
    dead = ElasticsearchCaller(Settings(), 1)
    for call in (
        lambda: dead.ping(DATA.expected),
        lambda: dead.search(user),
        lambda: dead.recall(user, 1682, "l"),
    ):
        with pytest.raises(ServiceUnavailable, match="elasticsearch"):
            call()
    dead.close()


def test_an_index_of_another_load_is_unavailable(caller: ElasticsearchCaller, user: UserRecall) -> None:
    present = load_digest()
    found, expected = caller.recall(user, 1682, present), caller.search(user)
    assert found.itemids.tolist() == expected.itemids.tolist() and found.scores.tolist() == expected.scores.tolist()
    with pytest.raises(ServiceUnavailable, match="none of 1682 items of the load another"):
        caller.recall(user, 1682, "another")
    with pytest.raises(ServiceUnavailable, match="holds 0 items of the load another behind ml_item, which has 1682"):
        caller.ping(replace(ServingData.load().expected, load_digest="another"))


def test_an_empty_index_is_unavailable(caller: ElasticsearchCaller, user: UserRecall) -> None:
    client, served_index = elasticsearch_client(Settings(), 10), None
    empty = f"{ES_ALIAS}-empty"
    try:
        (served_index,) = client.indices.get_alias(name=ES_ALIAS).body
        create_index(client, empty, len(user.vector))
        switch_alias(client, empty)
        with pytest.raises(ServiceUnavailable, match="found none of 1682 items"):
            caller.recall(user, 1682, load_digest())
        with pytest.raises(ServiceUnavailable, match="holds 0 items"):
            caller.ping(ServingData.load().expected)
    finally:
        if served_index:
            switch_alias(client, served_index)
        client.indices.delete(index=empty, ignore_unavailable=True)
        client.close()
    caller.ping(ServingData.load().expected)


def test_a_vector_of_another_width_is_a_fault_of_its_user(caller: ElasticsearchCaller) -> None:
    with pytest.raises(StoreFault, match="dimensions"):
        caller.search(UserRecall((), (1.0,), ()))


def test_the_alias_may_be_switched_between_exact_and_approximate_search(
    caller: ElasticsearchCaller, user: UserRecall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One caller follows, in both directions, and its scores are inner products either way."""
    monkeypatch.setattr(item_cells, "CELLS", 8)  # so few that what is found is not all of the exact search's
    monkeypatch.setattr(item_cells, "ITEMS_OF_A_CELL", 230)
    monkeypatch.setattr(vector_cells, "CELLS_OF_A_SEARCH", 1)
    client, content, users = elasticsearch_client(Settings(), 10), item_documents(), list(users_to_load().values())
    cells, name = cells_of(content, users, Settings(exact_search_up_to=1681)), ES_INDEX_OF_LOAD.format(load_digest())
    assert cells is not None and cells_of(content, users, Settings(exact_search_up_to=1682)) is None
    alone, product, table = UserRecall((), user.vector, user.seen), products(user), ServingData.load().table
    exact = caller.recall(alone, 1682, load_digest())
    (served_index,) = client.indices.get_alias(name=ES_ALIAS).body
    try:
        create_index(client, name + "cells", len(user.vector), cells)
        fill_index(client, name + "cells", content, cells)
        switch_alias(client, name + "cells")
        found = caller.recall(alone, 1682, load_digest())
        assert found.itemids.tolist() == caller.search(alone, name + "cells").itemids.tolist()
        (cell,) = cells.cells.nearest(np.array(user.vector))
        unseen = {item for row, item in enumerate(product) if cell in cells.of(row) and item not in user.seen}
        assert len(unseen) > len(unseen & set(exact.itemids.tolist())) > 0
        assert set(found.itemids.tolist()) == set(sorted(unseen, key=lambda item: -product[item])[:RECALL_SIZE])
        known = [product[item] for item in found.itemids.tolist()]
        np.testing.assert_allclose(found.scores, known, rtol=1e-5, atol=1e-5)
        assert caller.recall(user, 1682, load_digest()).by_term.any()
        for within in FILTERS:  # of which the cells nearest to the user may hold few items, or none
            admitted = table.ids[table.admitted(within, user.seen)].tolist()
            for asked in (alone, user):
                narrow = caller.recall(asked, len(admitted), load_digest(), within).itemids.tolist()
                assert len(set(narrow)) == min(len(admitted), RECALL_SIZE) and set(narrow) <= set(admitted)
        itemids = np.array([int(document["itemid"]) for document in content])
        loaded = np.array([document["vector"] for document in content])
        np.testing.assert_array_equal(stored_vectors(client, itemids, loaded.shape[1]), loaded)
    finally:
        switch_alias(client, served_index)
        client.indices.delete(index=name + "cells", ignore_unavailable=True)
        client.close()
    assert caller.recall(alone, 1682, load_digest()).itemids.tolist() == exact.itemids.tolist()


def test_the_query_leaves_out_what_a_user_lacks() -> None:
    everywhere, index = {"term": {"_index": "i"}}, SearchedIndex("i")
    both = recall_query(USER, index)
    unseen = {"filter": [everywhere], "must_not": [{"terms": {"itemid": ["5", "3"]}}]}
    assert both["knn"]["k"] == VECTOR_RECALL_SIZE and both["knn"]["filter"] == {"bool": unseen}
    assert {**both["query"]["bool"], "must": None} == {**unseen, "must": None}
    only_vector = recall_query(UserRecall((), (1.0,), ()), index)
    assert "query" not in only_vector and only_vector["knn"]["k"] == RECALL_SIZE
    assert only_vector["knn"]["filter"] == {"bool": {"filter": [everywhere]}}
    only_terms = recall_query(UserRecall(("War",), (), ()), index)
    assert "knn" not in only_terms and "must_not" not in only_terms["query"]["bool"]


def test_only_the_search_by_vector_is_confined_to_cells() -> None:
    cells = vector_cells.VectorCells(np.array([[1, 2], [-9, 9]], np.float32))
    query = recall_query(USER, SearchedIndex("i", cells))
    assert {"terms": {"cells": ["0", "1"]}} in query["knn"]["filter"]["bool"]["filter"]
    assert query["query"]["bool"]["filter"] == [{"term": {"_index": "i"}}]
    wider = recall_query(UserRecall((), (1.0,), ()), SearchedIndex("i", cells))  # which Elasticsearch refuses
    assert wider["knn"]["filter"]["bool"]["filter"] == [{"term": {"_index": "i"}}]
