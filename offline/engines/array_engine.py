"""The engine of one process: whole columns in memory, as far as that reaches."""

from contextlib import AbstractContextManager

import numpy as np
import pyarrow as pa

from data_exchange_center.columns import Column, Split
from data_exchange_center.features import FeatureSet
from data_exchange_center.table_artefact import Table
from offline.preprocess.encoding import external_ids
from offline.preprocess.histories import (
    OF_IMPRESSIONS,
    Histories,
    ItemGenres,
    seen_items,
    windows_after,
    windows_before,
)
from offline.preprocess.readers.layout import DataSource
from offline.preprocess.splitting import SplitRatings, split_users, with_indices
from offline.rank import training_rows


class ArrayEngine(AbstractContextManager["ArrayEngine"]):
    """See `Engine`."""

    def __exit__(self, *_: object) -> None:
        """Holds nothing that needs to be closed."""

    def split(self, data: DataSource) -> SplitRatings:
        """See `Engine`."""
        ratings = data.ratings()
        rows = split_users(ratings, data.online_rows, data.scale)
        userid, itemid, split, labels = (
            rows[name].to_numpy() for name in (Column.USERID, Column.ITEMID, Column.SPLIT, Column.LABEL)
        )
        online = split == Split.ONLINE
        user_ids, item_ids = np.unique(userid[~online]), np.unique(itemid[~online])
        rows = with_indices(rows, user_ids, item_ids)
        offline = rows.filter(pa.array(~online))
        return SplitRatings(
            offline=offline.add_column(0, Column.IMPRESSION, pa.array(np.arange(len(offline)))),
            online=rows.filter(pa.array(online)).drop_columns([Column.SPLIT]),
            userids=np.unique(userid),
            itemids=np.unique(itemid),
            user_ids=user_ids,
            item_ids=item_ids,
            external_ids=external_ids(ratings),
            counts={
                part: (int(labels[split == part].sum()), int((labels[split == part] == 0).sum())) for part in Split.ALL
            },
            repeated=len(ratings) - len(rows),
        )

    def histories(self, impressions: Table, users: pa.Table, genres: ItemGenres, features: FeatureSet) -> Histories:
        """See `Engine`."""
        rows = impressions.load(OF_IMPRESSIONS)
        items = np.searchsorted(genres.itemids, rows[Column.ITEMID].to_numpy())
        liked = (rows[Column.LABEL].to_numpy() == 1) & (rows[Column.SPLIT].to_numpy() != Split.TEST)
        return Histories(
            before=windows_before(rows, genres, features),
            newest=windows_after(rows, users[Column.USERID].to_numpy(), genres, features),
            seen=seen_items(rows),
            impressions=np.bincount(items, minlength=len(genres.itemids)),
            positives=np.bincount(items[liked], minlength=len(genres.itemids)),
        )

    def training_frame(
        self, impressions: Table, history: Table, users: pa.Table, items: pa.Table, features: FeatureSet
    ) -> pa.Table:
        """See `Engine`."""
        rows = impressions.load(training_rows.OF_IMPRESSIONS)
        return training_rows.training_rows(rows, history.load(), users, items, features)
