"""What the server takes from the artefacts and keeps in memory: the items' metadata, popular items, known users."""

import bisect
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array, Int64Array
from data_exchange_center.columns import Column
from data_exchange_center.dataset import DatasetDocument, RatingScale
from data_exchange_center.external_ids import ExternalId
from data_exchange_center.features import FeatureSet
from data_exchange_center.item_years import item_years, year_columns
from data_exchange_center.serving_load import LOADED, load_digest
from online.callers.types import Expected, lost_user
from online.item_table import ItemTable

MOST_USERS = 200  # that a person is offered to choose from


@dataclass(frozen=True)
class ItemMetadata:
    """What a person reads of an item, and its place in the models' tables."""

    title: str
    genres: tuple[str, ...]
    index: int = 0  # item_index: the item as the models know it; 0 is an unknown one
    external_id: ExternalId | None = None  # the id as it came; None where it is the integer by which the item is known
    year: int | None = None


# Stands for an item that the present artefacts do not have. The stores may still hold one from before a load.
UNKNOWN_ITEM_METADATA = ItemMetadata("", ())


@dataclass(frozen=True)
class ServingData:
    """What the server takes from the artefacts.

    Attributes:
        dataset: the data set's name.
        load_digest: what the stores must have been filled from; see data_exchange_center/serving_load.py.
        features: the ranking model's features.
        feature_hash: what a model must have been trained on for its scores to be used.
        vocabulary_sizes: how many rows the embedding table of each sparse feature has, by the feature's name.
        scale: what ratings there are, and which are positives.
        text_ids: those of `userid` and `itemid` that are text outside.
        users: the ids of all users whom the stores know of the load, ascending.
        some_users: the ids of some of them, spread over all, as they came: for a person to choose from.
        items: the metadata of every item, by its id.
        popular: (itemid, share of the most popular item's positives), the most popular first.
        vectors: [items + 1, dim + 1] the items' vectors by `ItemMetadata.index`, the bias last; read as they are used.
    """

    dataset: str
    load_digest: str
    features: FeatureSet
    feature_hash: str
    vocabulary_sizes: Mapping[str, int]
    scale: RatingScale
    text_ids: frozenset[str]
    users: Sequence[int]
    some_users: tuple[ExternalId, ...]
    items: Mapping[int, ItemMetadata]
    popular: tuple[tuple[int, float], ...]
    vectors: Float32Array = field(repr=False, compare=False)

    @classmethod
    def load(cls) -> "ServingData":
        """Reads the artefacts.

        Raises:
            ArtefactError: an artefact is missing; the message names the stage to run.
        """
        dataset = catalogue.DATASET.load()
        users, some_users = _users(Column.USERID in dataset.text_ids)
        data = cls(
            dataset=dataset.dataset,
            load_digest=load_digest(),
            features=dataset.features,
            feature_hash=dataset.feature_hash,
            vocabulary_sizes=dataset.vocabulary_sizes,
            scale=dataset.scale,
            text_ids=frozenset(dataset.text_ids),
            users=users,
            some_users=some_users,
            items=_item_metadata(dataset),
            popular=_popular_items(),
            vectors=catalogue.SEQUENCE_ITEM_VECTORS.load(mapped=True),
        )
        _ = data.table, data.popular_rows  # made now, and not while a request waits
        return data

    @staticmethod
    def state() -> tuple[float, ...]:
        """A value that changes when one of the artefacts does."""
        return tuple(artefact.file.stat().st_mtime for artefact in LOADED if artefact.file.exists())

    @cached_property
    def table(self) -> ItemTable:
        """The items as arrays."""
        return ItemTable.of(self.items, self.features.categories.genres)

    @cached_property
    def popular_rows(self) -> Int64Array:
        """[popular] the rows in `table` of the popular items, in their order."""
        return self.table.rows([itemid for itemid, _ in self.popular])

    def vectors_of(self, itemids: Sequence[int] | Int64Array) -> Float32Array:
        """[k, dim + 1] the vectors of these k items; zeros for an item that is not known, or has none."""
        rows = self.table.rows(itemids)
        known = rows >= 0
        known[known] = self.table.indices[rows[known]] < len(self.vectors)
        found = np.zeros((len(rows), self.vectors.shape[1]), np.float32)
        found[known] = self.vectors[self.table.indices[rows[known]]]
        return found

    def knows(self, userid: int) -> bool:
        """Whether the user is among `users`."""
        place = bisect.bisect_left(self.users, userid)
        return place < len(self.users) and self.users[place] == userid

    def check_user(self, service: str, userid: int, is_known: bool) -> None:
        """Raises StoreFault where a service does not know a user who is among `users`: that is no new user."""
        if not is_known and self.knows(userid):
            raise lost_user(service, userid)

    @property
    def expected(self) -> Expected:
        """What the services must hold."""
        return Expected(
            self.load_digest, self.features, self.feature_hash, len(self.items), next(iter(self.users), None)
        )


def _users(are_text: bool) -> tuple["array[int]", tuple[ExternalId, ...]]:
    """`users` and `some_users` of ServingData."""
    table = catalogue.USERS.load([Column.USERID, Column.USER_INDEX, *[Column.EXTERNAL_USERID] * are_text])
    userids, indices = (table[name].to_pylist() for name in (Column.USERID, Column.USER_INDEX))
    known = array("q", (row for row, index in enumerate(indices) if index))
    # Eight bytes a user, however many there are; a Python object of the id as it came only for those that are shown.
    users = array("q", (userids[row] for row in known))
    shown = table[Column.EXTERNAL_USERID if are_text else Column.USERID]
    return users, tuple(shown[row].as_py() for row in known[:: max(len(known) // MOST_USERS, 1)])


def _item_metadata(dataset: DatasetDocument) -> dict[int, ItemMetadata]:
    own, are_text = dataset.categories.item, Column.ITEMID in dataset.text_ids
    names = [Column.ITEMID, Column.TITLE, Column.GENRES, Column.ITEM_INDEX, *[Column.EXTERNAL_ITEMID] * are_text]
    table = catalogue.ITEMS.load([*names, *year_columns(own)])
    columns = [table[name].to_pylist() for name in names[:4]]
    externals = table[Column.EXTERNAL_ITEMID].to_pylist() if are_text else [None] * len(table)
    rows = zip(*columns, externals, item_years(table, own), strict=True)
    return {itemid: ItemMetadata(title, tuple(genres), *others) for itemid, title, genres, *others in rows}


def _popular_items() -> tuple[tuple[int, float], ...]:
    columns = catalogue.POPULAR_ITEMS.load([Column.ITEMID, Column.POSITIVES])
    itemids, positives = (column.to_pylist() for column in columns.columns)
    most = max(positives, default=1) or 1
    return tuple((itemid, count / most) for itemid, count in zip(itemids, positives, strict=True))
