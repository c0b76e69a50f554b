"""The cells of an approximate search: which items are compared with a user's vector, where all of them are too many.

A cell belongs to a point among the users' vectors, and holds the items with the largest inner products with that point.
A search compares the user's vector with the items of the cells nearest to it, by their own inner products. So what is
found has its exact score, and what is missed are items that no user nearby has among their best.

The cells are of users' vectors and not of items', since the two are distributed differently: a user's best items lie
scattered among the items, and most items are among the best of nobody.
"""

import base64
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_exchange_center.arrays import Float32Array, FloatArray

CELLS_OF_A_SEARCH = 10


@dataclass(frozen=True, eq=False)
class VectorCells:
    """The cells' centroids.

    Attributes:
        centroids: [cells, dimensions] points among the users' vectors.
    """

    centroids: Float32Array

    @cached_property
    def _squares(self) -> Float32Array:
        squares: Float32Array = np.square(self.centroids).sum(1)
        return squares

    @property
    def dimensions(self) -> int:
        """Of the vectors."""
        return self.centroids.shape[1]

    def nearest(self, vector: FloatArray) -> list[str]:
        """The names of the CELLS_OF_A_SEARCH cells whose centroids are nearest to a user's vector [dimensions]."""
        distances = self._squares - 2 * (self.centroids @ vector.astype(np.float32, copy=False))
        count = min(CELLS_OF_A_SEARCH, len(distances))
        return [str(cell) for cell in np.argpartition(distances, count - 1)[:count].tolist()]

    def encoded(self) -> str:
        """The centroids as text, half-precision: a third of a megabyte for 2,048 cells of 65 dimensions."""
        return base64.b64encode(self.centroids.astype("<f2").tobytes()).decode()

    @classmethod
    def decoded(cls, text: str, dimensions: int) -> "VectorCells":
        """The cells that `encoded` wrote.

        Raises:
            ValueError: the text is no whole number of centroids.
        """
        flat = np.frombuffer(base64.b64decode(text, validate=True), "<f2")
        return cls(flat.reshape(-1, dimensions).astype(np.float32))
