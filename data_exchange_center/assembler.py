"""Puts a user's and some items' features together in the declared order: the server's, the check's and the funnel's."""

import numpy as np
import numpy.typing as npt

from data_exchange_center.features import DENSE_COLUMNS, SPARSE_COLUMNS, entity_columns

USER_COLUMNS = entity_columns("user")
ITEM_COLUMNS = entity_columns("item")

Block = tuple[slice, slice]

UNKNOWN_USER: npt.NDArray[np.int64] = np.zeros(len(USER_COLUMNS), np.int64)
UNKNOWN_ITEM: npt.NDArray[np.int64] = np.zeros(len(ITEM_COLUMNS), np.int64)


def _blocks(wanted: tuple[str, ...], given: tuple[str, ...]) -> list[Block]:
    """Runs of columns that stand in the same order in both: (where in wanted, where in given), to be copied whole."""
    blocks: list[Block] = []
    for to, name in enumerate(wanted):
        if name not in given:
            continue
        at = given.index(name)
        if blocks and (blocks[-1][0].stop, blocks[-1][1].stop) == (to, at):
            blocks[-1] = slice(blocks[-1][0].start, to + 1), slice(blocks[-1][1].start, at + 1)
        else:
            blocks.append((slice(to, to + 1), slice(at, at + 1)))
    return blocks


_SPARSE = _blocks(SPARSE_COLUMNS, USER_COLUMNS), _blocks(SPARSE_COLUMNS, ITEM_COLUMNS)
_DENSE = _blocks(DENSE_COLUMNS, USER_COLUMNS), _blocks(DENSE_COLUMNS, ITEM_COLUMNS)


def assemble(
    user: npt.NDArray[np.integer], items: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The model's two inputs for one user and n items.

    Args:
        user: [..., 40] values of USER_COLUMNS; one row, or a row for each item.
        items: [n, 19] values of ITEM_COLUMNS.

    Returns:
        sparse [n, 23] int64 and dense [n, 36] float32.
    """
    sparse = np.empty((len(items), len(SPARSE_COLUMNS)), np.int64)
    dense = np.empty((len(items), len(DENSE_COLUMNS)), np.float32)
    for inputs, (of_user, of_item) in ((sparse, _SPARSE), (dense, _DENSE)):
        for to, at in of_user:
            inputs[:, to] = user[..., at]
        for to, at in of_item:
            inputs[:, to] = items[:, at]
    return sparse, dense
