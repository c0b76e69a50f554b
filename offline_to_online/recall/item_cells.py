"""Which items each cell of an approximate search holds; see data_exchange_center/vector_cells.py."""

from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans

from data_exchange_center.arrays import Float32Array, Int64Array
from data_exchange_center.vector_cells import VectorCells

CELLS = 2048
ITEMS_OF_A_CELL = 750  # more than a search returns, since no user stands exactly at a cell's centroid
USERS_OF_A_CELL = 2  # at least, on average: with few users there are fewer cells
MOST_USERS = 20 * CELLS  # that the cells are fitted to
ITERATIONS = 15
CELLS_AT_ONCE = 32  # whose inner products with all items are in memory


@dataclass(frozen=True, eq=False)
class ItemCells:
    """The cells, and each item's.

    Attributes:
        cells: where they are.
        starts: [items + 1] where each item's begin in `members`.
        members: cells, item after item.
    """

    cells: VectorCells
    starts: Int64Array
    members: Int64Array

    def of(self, row: int) -> list[str]:
        """The names of an item's cells; none for an item that no search by vector is to find."""
        return [str(cell) for cell in self.members[self.starts[row] : self.starts[row + 1]].tolist()]


def fit_cells(users: Float32Array, items: Float32Array, seed: int) -> ItemCells:
    """Cells at the centroids of users' vectors, each with the items of the largest inner products.

    Args:
        users: [users, dimensions] of at least one user.
        items: [items, dimensions], as are the rows of the result.
        seed: of the draw of MOST_USERS of the users, and of the centroids' start.
    """
    if len(users) > MOST_USERS:
        users = users[np.random.default_rng(seed).choice(len(users), MOST_USERS, replace=False)]
    count = min(CELLS, max(len(users) // USERS_OF_A_CELL, 1))
    fitted = KMeans(count, n_init=1, max_iter=ITERATIONS, random_state=seed).fit(users)
    kept = VectorCells(fitted.cluster_centers_.astype(np.float32)).encoded()  # rounded as the server will read them
    cells = VectorCells.decoded(kept, users.shape[1])

    size = min(ITEMS_OF_A_CELL, len(items))
    best = np.concatenate(
        [
            np.argpartition(cells.centroids[start : start + CELLS_AT_ONCE] @ items.T, len(items) - size)[:, -size:]
            for start in range(0, count, CELLS_AT_ONCE)
        ]
    ).ravel()
    order = np.argsort(best, kind="stable")
    starts = np.searchsorted(best[order], np.arange(len(items) + 1))
    return ItemCells(cells, starts, np.repeat(np.arange(count), size)[order])
