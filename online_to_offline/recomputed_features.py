"""Whether the features that the ranking model got are those that training would have made.

The log holds a digest of them, and the user's last impressions at that moment. From these, from the artefacts and by
the functions that made the training rows the same features are computed again.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.arrays import BoolArray, Int64Array
from data_exchange_center.columns import Column, LogColumn
from data_exchange_center.dataset import DatasetDocument
from data_exchange_center.log_entries import feature_digests
from data_exchange_center.serving_load import load_digest
from data_exchange_center.tables import to_matrix
from data_exchange_center.user_state import genre_flags, newest_windows

FEATURE_READS = (catalogue.USER_FEATURES, catalogue.ITEM_FEATURES, catalogue.ITEMS)
FEAST = "feast"  # as `degraded` names it


@dataclass(frozen=True)
class CheckedFeatures:
    """How many shown items were checked, how many differ, and lists that were not checked, by reason."""

    items: int
    different: int
    unchecked_lists: dict[str, int]


def check_features(log: pa.Table, dataset: DatasetDocument) -> CheckedFeatures:
    """Computes the features of each shown item again, and compares their digests with those of the log.

    Args:
        log: IMPRESSIONS_LOG.
        dataset: of the present artefacts. Lists of another load followed from other artefacts, and are not checked.
    """
    lists = _Lists.of(log)
    users = catalogue.USER_FEATURES.load()
    known = np.isin(lists.userid, users[Column.USERID].to_numpy())
    reasons = {
        "of another load": lists.load != load_digest(),
        "the ranking model had no part": ~lists.has_digests,
        "Feast had no part": lists.without_feast,
        "the user is not in the artefacts": ~known,
    }
    unchecked = np.zeros(len(lists.userid), bool)
    counts: dict[str, int] = {}
    for reason, holds in reasons.items():
        if count := int((holds & ~unchecked).sum()):
            counts[reason] = count
        unchecked |= holds
    rows = np.flatnonzero(~unchecked)
    user_features = _user_features(log, lists, rows, users, dataset)
    items = catalogue.ITEM_FEATURES.load()
    itemids = items[Column.ITEMID].to_numpy()
    item_features = to_matrix(items, dataset.features.item_columns, np.int64)
    shown, digests = log[Column.ITEMID].to_numpy(), log[LogColumn.FEATURES].to_pylist()
    checked = different = 0
    for place, row in enumerate(rows.tolist()):
        block = slice(int(lists.first[row]), int(lists.end[row]))
        features = item_features[np.searchsorted(itemids, shown[block])]
        own = feature_digests(user_features[place], features)
        different += sum(one != other for one, other in zip(own, digests[block], strict=True))
        checked += len(own)
    return CheckedFeatures(checked, different, counts)


@dataclass(frozen=True)
class _Lists:
    """The lists of the log: [lists] where the rows of each begin and end, and what is the same for all of them."""

    first: Int64Array
    end: Int64Array
    userid: Int64Array
    load: np.ndarray
    has_digests: BoolArray
    without_feast: BoolArray

    @classmethod
    def of(cls, log: pa.Table) -> "_Lists":
        first = np.flatnonzero(log[LogColumn.POSITION].to_numpy() == 1)
        heads = log.take(pa.array(first))
        degraded = heads[LogColumn.DEGRADED].to_pylist()
        return cls(
            first=first,
            end=np.r_[first, len(log)][1:],
            userid=heads[Column.USERID].to_numpy(),
            load=np.array(heads[LogColumn.LOAD].to_pylist(), object),
            has_digests=np.array([digest is not None for digest in heads[LogColumn.FEATURES].to_pylist()], bool),
            without_feast=np.array([FEAST in services.split("+") for services in degraded], bool),
        )


def _user_features(
    log: pa.Table, lists: _Lists, rows: Int64Array, users: pa.Table, dataset: DatasetDocument
) -> Int64Array:
    """[rows, user columns] the features of the users of these lists: as in the artefacts, but for their history."""
    columns = dataset.features.user_columns
    own = np.searchsorted(users[Column.USERID].to_numpy(), lists.userid[rows])
    values = to_matrix(users, columns, np.int64)[own]
    items = catalogue.ITEMS.load([Column.ITEMID, Column.GENRES])
    flags = genre_flags(items[Column.GENRES].to_pylist(), dataset.categories.genres)
    heads = log.take(pa.array(lists.first[rows]))
    recent = heads[LogColumn.RECENT_ITEMS].combine_chunks()
    rated = heads[LogColumn.RECENT_RATINGS].combine_chunks().flatten().to_numpy()
    sizes = recent.value_lengths().to_numpy()
    places = np.searchsorted(items[Column.ITEMID].to_numpy(), recent.flatten().to_numpy())
    of_list = np.repeat(np.arange(len(rows)), sizes)
    labels = dataset.scale.are_positive(rated).astype(np.uint8)
    windows = newest_windows(of_list, flags[places], labels, np.arange(len(rows)))
    history = [columns.index(name) for name in dataset.features.history_counts]
    values[:, history] = windows
    return values
