"""Puts a user's and some items' features together in the declared order: the server's, the check's and the funnel's."""

import numpy as np
import numpy.typing as npt

from data_exchange_center.features import DENSE_COLUMNS, SPARSE_COLUMNS, entity_columns

USER_COLUMNS = entity_columns("user")
ITEM_COLUMNS = entity_columns("item")

_both = USER_COLUMNS + ITEM_COLUMNS
_sparse_at = [_both.index(name) for name in SPARSE_COLUMNS]
_dense_at = [_both.index(name) for name in DENSE_COLUMNS]

UNKNOWN_USER: npt.NDArray[np.int64] = np.zeros(len(USER_COLUMNS), np.int64)
UNKNOWN_ITEM: npt.NDArray[np.int64] = np.zeros(len(ITEM_COLUMNS), np.int64)


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
    rows = np.concatenate([np.broadcast_to(user, (len(items), len(USER_COLUMNS))), items], axis=1)
    return rows[:, _sparse_at].astype(np.int64), rows[:, _dense_at].astype(np.float32)
