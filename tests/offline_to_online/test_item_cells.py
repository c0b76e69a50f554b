"""Establishes that a cell holds the best items of its centroid, and that the server reads the cells as fitted."""

import numpy as np
import pytest

from data_exchange_center.vector_cells import CELLS_OF_A_SEARCH, VectorCells
from offline_to_online.recall import item_cells
from offline_to_online.recall.item_cells import fit_cells


def test_a_cell_holds_the_best_items_of_its_centroid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_cells, "ITEMS_OF_A_CELL", 30)
    rng = np.random.default_rng(5)
    users, items = (rng.normal(size=(count, 7)).astype(np.float32) for count in (100, 400))
    fitted = fit_cells(users, items, seed=1)
    centroids = fitted.cells.centroids
    assert len(centroids) == 100 // item_cells.USERS_OF_A_CELL
    for cell, centroid in enumerate(centroids):
        own = {row for row in range(len(items)) if str(cell) in fitted.of(row)}
        assert own == set(np.argsort(-(items @ centroid))[:30].tolist())
    again = VectorCells.decoded(fitted.cells.encoded(), 7)
    np.testing.assert_array_equal(again.centroids, centroids)
    nearest = np.argsort(np.square(centroids - users[3]).sum(1))[:CELLS_OF_A_SEARCH]
    assert set(again.nearest(users[3])) == {str(cell) for cell in nearest.tolist()}


def test_few_users_and_few_items_have_cells_too() -> None:
    fitted = fit_cells(np.ones((1, 3), np.float32), np.eye(3, dtype=np.float32), seed=1)
    assert [fitted.of(row) for row in range(3)] == [["0"]] * 3 and fitted.cells.nearest(np.zeros(3)) == ["0"]


def test_text_that_is_no_centroids_is_refused() -> None:
    for text in ("!", VectorCells(np.ones((1, 3), np.float32)).encoded()):
        with pytest.raises(ValueError):
            VectorCells.decoded(text, 2)
