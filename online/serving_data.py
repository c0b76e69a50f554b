"""What the server takes from the artefacts and keeps in memory: the items' metadata, popular items, known users."""

import bisect
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.features import COLUMNS, feature_hash, vocabulary_sizes
from data_exchange_center.serving_load import LOADED, load_digest
from online.callers.types import Expected, lost_user


@dataclass(frozen=True)
class ItemMetadata:
    """What a person reads of an item, and its place in the models' tables."""

    title: str
    genres: tuple[str, ...]
    index: int = 0  # item_index: the item as the models know it; 0 is an unknown one


# Stands for an item that the present artefacts do not have. The stores may still hold one from before a load.
UNKNOWN_ITEM_METADATA = ItemMetadata("", ())


@dataclass(frozen=True)
class ServingData:
    """What the server takes from the artefacts.

    Attributes:
        dataset: the data set's name.
        load_digest: what the stores must have been filled from; see data_exchange_center/serving_load.py.
        feature_hash: what a model must have been trained on for its scores to be used.
        vocabulary_sizes: how many rows the embedding table of each sparse feature has, by the feature's name.
        users: the ids of all users whom the stores know of the load, ascending.
        items: the metadata of every item, by its id.
        popular: (itemid, share of the most popular item's positives), the most popular first.
    """

    dataset: str
    load_digest: str
    feature_hash: str
    vocabulary_sizes: Mapping[str, int]
    users: Sequence[int]
    items: Mapping[int, ItemMetadata]
    popular: tuple[tuple[int, float], ...]

    @classmethod
    def load(cls) -> "ServingData":
        """Reads the artefacts.

        Raises:
            ArtefactError: an artefact is missing; the message names the stage to run.
        """
        dataset = catalogue.DATASET.load()
        sizes = vocabulary_sizes(dataset.id_sizes)
        return cls(
            dataset=dataset.dataset,
            load_digest=load_digest(),
            feature_hash=feature_hash(COLUMNS, sizes, dataset.id_digest),
            vocabulary_sizes=sizes,
            users=_known_users(),
            items=_item_metadata(),
            popular=_popular_items(),
        )

    @staticmethod
    def state() -> tuple[float, ...]:
        """A value that changes when one of the artefacts does."""
        return tuple(artefact.file.stat().st_mtime for artefact in LOADED if artefact.file.exists())

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
        return Expected(self.load_digest, self.feature_hash, len(self.items), next(iter(self.users), None))


def _known_users() -> "array[int]":
    columns = catalogue.USERS.load([Column.USERID, Column.USER_INDEX])
    userids, indices = (column.to_pylist() for column in columns.columns)
    # Eight bytes a user, however many there are.
    return array("q", (userid for userid, index in zip(userids, indices, strict=True) if index))


def _item_metadata() -> dict[int, ItemMetadata]:
    columns = catalogue.ITEMS.load([Column.ITEMID, Column.TITLE, Column.GENRES, Column.ITEM_INDEX])
    rows = zip(*(column.to_pylist() for column in columns.columns), strict=True)
    return {itemid: ItemMetadata(title, tuple(genres), index) for itemid, title, genres, index in rows}


def _popular_items() -> tuple[tuple[int, float], ...]:
    columns = catalogue.POPULAR_ITEMS.load([Column.ITEMID, Column.POSITIVES])
    itemids, positives = (column.to_pylist() for column in columns.columns)
    most = max(positives, default=1) or 1
    return tuple((itemid, count / most) for itemid, count in zip(itemids, positives, strict=True))
