"""Rows of a table by their indices, the one way that is quick and comes out the same each time."""

from torch import Tensor


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """[..., width] the rows of a table [n, width] at the indices [...]; [...] the values of a table [n].

    By index_select: on a CPU its gradient takes a third of the time of embedding's, and is the same each time, where
    that of table[index] adds up in the order in which threads come.
    """
    return table.index_select(0, index.flatten()).view(*index.shape, *table.shape[1:])
