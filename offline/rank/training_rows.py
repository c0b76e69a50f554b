"""The training frame from entities, windows and impressions that belong together: all of them, or those of one part."""

import pyarrow as pa

from data_exchange_center.columns import Column
from data_exchange_center.features import FeatureSet
from data_exchange_center.tables import rows_by_key, side_by_side

# The columns of the offline impressions that a training row is made from.
OF_IMPRESSIONS = (Column.IMPRESSION, Column.USERID, Column.ITEMID, Column.LABEL, Column.SPLIT)


def training_rows(
    impressions: pa.Table, history: pa.Table, users: pa.Table, items: pa.Table, features: FeatureSet
) -> pa.Table:
    """Catalogue entry TRAINING_FRAME of some impressions.

    Args:
        impressions: [n] OF_IMPRESSIONS.
        history: [n] catalogue entry HISTORY of the same impressions.
        users: userid and the features of users but for the history, of all users.
        items: catalogue entry ITEM_FEATURES, of all items.
        features: the data set's.
    """
    return side_by_side(
        rows_by_key(users, Column.USERID, impressions[Column.USERID].to_numpy()),
        rows_by_key(items, Column.ITEMID, impressions[Column.ITEMID].to_numpy()),
        history,
        impressions,
    ).select([Column.IMPRESSION, *features.columns, Column.LABEL, Column.SPLIT])
