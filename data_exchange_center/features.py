"""THE ordered declaration of the ranking model's features: 59 where the categories are MovieLens's.

Everything that depends on them is derived from the tuple in `declare` and never typed again: the columns of the
training frame, the model's embedding tables, the ONNX inputs, Feast's fields, Triton's config and the order in
which the server assembles a candidate. To add a feature of a user or an item, add its line there and the function that
computes its column to offline/rank/derived_features.py, where an example stands; the consistency check then compares
what is served with what was trained on.

Standard library only: the Feast server's container imports this file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from typing import Literal

from data_exchange_center.columns import Column
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from data_exchange_center.vocabularies import Categories, slugs

Entity = Literal["user", "item"]

JOIN_KEYS: Mapping[Entity, str] = {"user": Column.USERID, "item": Column.ITEMID}


@dataclass(frozen=True)
class SparseFeature:
    """A category, carried as its index (int64) in `vocabulary`; index 0 is unknown and embeds to zeros."""

    name: str
    entity: Entity
    vocabulary: str
    embedding_dim: int


@dataclass(frozen=True)
class DenseFeature:
    """A raw count or another whole number from 0 to 255, carried as float32; only the model standardises it."""

    name: str
    entity: Entity


# The ids carry the taste, so they get 16 dimensions; 2 are plenty for the tables of MovieLens, of 2 to 22 rows.
ID_DIM = 16
SIDE_DIM = 2
FLAG = "flag"  # the vocabulary of a flag, which is 0 or 1

# What the ranking model is told of the recall that found a candidate; data_exchange_center/recall_features.py.
RECALL_FEATURES = ("gap", "z", "log_rank", "by_term", "by_vector")


@cache
def declare(categories: Categories) -> "FeatureSet":
    """The features of a data set with these categories."""
    genres = slugs(categories.genres)
    flags = tuple(f"genre_{genre}" for genre in genres)
    counts = tuple(f"{kind}_{genre}" for kind in ("imp", "clk") for genre in genres)
    features: tuple[SparseFeature | DenseFeature, ...] = (
        SparseFeature(Column.USER_INDEX, "user", Column.USERID, ID_DIM),
        *(SparseFeature(name, "user", name, SIDE_DIM) for name in categories.user),
        SparseFeature(Column.ITEM_INDEX, "item", Column.ITEMID, ID_DIM),
        *(SparseFeature(name, "item", name, SIDE_DIM) for name in categories.item),
        *(SparseFeature(flag, "item", FLAG, SIDE_DIM) for flag in flags),
        *(DenseFeature(count, "user") for count in counts),
    )
    return FeatureSet(features, categories, flags, counts)


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """The features in order, and what follows from them.

    Attributes:
        features: all of them.
        categories: of the data set.
        genre_flags: names of an item's features, one a genre.
        history_counts: names of a user's features: impressions by genre, then positives by genre.
    """

    features: tuple[SparseFeature | DenseFeature, ...]
    categories: Categories
    genre_flags: tuple[str, ...]
    history_counts: tuple[str, ...]

    @cached_property
    def sparse(self) -> tuple[SparseFeature, ...]:
        """The sparse features in order."""
        return tuple(f for f in self.features if isinstance(f, SparseFeature))

    @cached_property
    def dense(self) -> tuple[DenseFeature, ...]:
        """The dense features in order."""
        return tuple(f for f in self.features if isinstance(f, DenseFeature))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of all features."""
        return tuple(f.name for f in self.features)

    @cached_property
    def sparse_columns(self) -> tuple[str, ...]:
        """The names of the sparse features."""
        return tuple(f.name for f in self.sparse)

    @cached_property
    def dense_columns(self) -> tuple[str, ...]:
        """The names of the dense features."""
        return tuple(f.name for f in self.dense)

    @cached_property
    def user_columns(self) -> tuple[str, ...]:
        """The names of a user's features."""
        return tuple(f.name for f in self.features if f.entity == "user")

    @cached_property
    def item_columns(self) -> tuple[str, ...]:
        """The names of an item's features."""
        return tuple(f.name for f in self.features if f.entity == "item")

    def entity_columns(self, entity: Entity) -> tuple[str, ...]:
        """The names of one entity's features."""
        return self.user_columns if entity == "user" else self.item_columns

    @cached_property
    def history_places(self) -> list[int]:
        """The places of `history_counts` among `user_columns`."""
        return [self.user_columns.index(name) for name in self.history_counts]

    @cached_property
    def flag_places(self) -> list[int]:
        """The places of `genre_flags` among `item_columns`."""
        return [self.item_columns.index(name) for name in self.genre_flags]

    def vocabulary_sizes(self, id_sizes: Mapping[str, int]) -> dict[str, int]:
        """Rows of each sparse feature's embedding table, in order.

        Args:
            id_sizes: sizes of the vocabularies of the ids (`userid`, `itemid`), unknown counted.
        """
        own = {**self.categories.user, **self.categories.item}
        sizes = {FLAG: 2, **{name: len(values) + 1 for name, values in own.items()}, **id_sizes}
        return {f.name: sizes[f.vocabulary] for f in self.sparse}

    def hash(self, sizes: Mapping[str, int], id_digest: str) -> str:
        """Fingerprint of all that a model and its callers must agree on.

        Args:
            sizes: as returned by `vocabulary_sizes`.
            id_digest: digest of the ids behind `user_index` and `item_index`, so that a model trained on other
                data, whose index 7 is another user, is refused even where the sizes agree.
        """
        content = {
            "features": [{"kind": type(f).__name__, **asdict(f)} for f in self.features],
            "categories": asdict(self.categories),
            "sizes": dict(sizes),
            "ids": id_digest,
            "recall": RECALL_FEATURES,
            "sequences": [TOWER_IMPRESSIONS, RANKER_IMPRESSIONS],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
