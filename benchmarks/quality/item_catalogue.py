"""The catalogue's items as the metrics and the popularity baseline see them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from data_exchange_center import catalogue
from data_exchange_center.arrays import FloatArray, Int64Array
from data_exchange_center.columns import Column
from data_exchange_center.tables import to_matrix


@dataclass(frozen=True)
class ItemCatalogue:
    """All items, and what the offline rows say about each.

    Attributes:
        ids: [items] itemids, ascending.
        flags: [items, genres] 1 where the item has the genre.
        raters: [items] how many users have rated it.
        positives: [items] how many positives it has, over all offline rows, to which the served models are fitted.
        users: how many users have offline rows.
    """

    ids: Int64Array
    flags: FloatArray
    raters: Int64Array
    positives: Int64Array
    users: int

    @cached_property
    def by_popularity(self) -> Int64Array:
        """[items] itemids, those with the most positives first, ties by itemid."""
        return self.ids[np.lexsort((self.ids, -self.positives))]

    @classmethod
    def load(cls) -> "ItemCatalogue":
        """From the artefacts."""
        genres = catalogue.ITEM_GENRES.load()
        rows = catalogue.OFFLINE_IMPRESSIONS.load([Column.USERID, Column.ITEMID, Column.LABEL])
        ids = genres[Column.ITEMID].to_numpy()
        item = np.searchsorted(ids, rows[Column.ITEMID].to_numpy())
        users, user = np.unique(rows[Column.USERID].to_numpy(), return_inverse=True)
        # A user who has rated an item twice is one rater: the sparse matrix merges the two rows.
        rated = sp.csc_matrix((np.ones(len(item), bool), (user, item)), (len(users), len(ids)))
        return cls(
            ids=ids,
            flags=to_matrix(genres, catalogue.DATASET.load().features.genre_flags, np.float64),
            raters=rated.getnnz(axis=0),
            positives=np.bincount(item[rows[Column.LABEL].to_numpy() == 1], minlength=len(ids)),
            users=len(users),
        )
