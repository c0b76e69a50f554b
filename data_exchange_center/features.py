"""THE ordered declaration of the ranking model's 59 features.

Everything that depends on them is derived from the tuple below and never typed again: the columns of the
training frame, the model's embedding tables, the ONNX inputs, Feast's fields, Triton's config and the order in
which the server assembles a candidate. To add a feature of a user or an item, add its line here and the function that
computes its column to offline/rank/derived_features.py, where an example stands; the consistency check then compares
what is served with what was trained on.

Standard library only: the Feast server's container imports this file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Literal

from data_exchange_center.columns import Column
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from data_exchange_center.vocabularies import FIXED_SIZES, GENRES, slug

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


GENRE_FLAGS: tuple[str, ...] = tuple(f"genre_{slug(genre)}" for genre in GENRES)
IMPRESSION_COUNTS: tuple[str, ...] = tuple(f"imp_{slug(genre)}" for genre in GENRES)
CLICK_COUNTS: tuple[str, ...] = tuple(f"clk_{slug(genre)}" for genre in GENRES)
HISTORY_COUNTS: tuple[str, ...] = IMPRESSION_COUNTS + CLICK_COUNTS

# The ids carry the taste, so they get 16 dimensions; 2 are plenty for tables of 2 to 22 rows.
ID_DIM = 16
SIDE_DIM = 2

# What the ranking model is told of the recall that found a candidate; data_exchange_center/recall_features.py.
RECALL_FEATURES = ("gap", "z", "log_rank", "by_term", "by_vector")

FEATURES: tuple[SparseFeature | DenseFeature, ...] = (
    SparseFeature(Column.USER_INDEX, "user", Column.USERID, ID_DIM),
    SparseFeature(Column.GENDER, "user", "gender", SIDE_DIM),
    SparseFeature(Column.AGE, "user", "age", SIDE_DIM),
    SparseFeature(Column.OCCUPATION, "user", "occupation", SIDE_DIM),
    SparseFeature(Column.ITEM_INDEX, "item", Column.ITEMID, ID_DIM),
    *(SparseFeature(flag, "item", "flag", SIDE_DIM) for flag in GENRE_FLAGS),
    *(DenseFeature(count, "user") for count in HISTORY_COUNTS),
)

SPARSE: tuple[SparseFeature, ...] = tuple(f for f in FEATURES if isinstance(f, SparseFeature))
DENSE: tuple[DenseFeature, ...] = tuple(f for f in FEATURES if isinstance(f, DenseFeature))
COLUMNS: tuple[str, ...] = tuple(f.name for f in FEATURES)
SPARSE_COLUMNS: tuple[str, ...] = tuple(f.name for f in SPARSE)
DENSE_COLUMNS: tuple[str, ...] = tuple(f.name for f in DENSE)


@cache
def entity_columns(entity: Entity) -> tuple[str, ...]:
    """The names of one entity's features, in the declaration's order."""
    return tuple(f.name for f in FEATURES if f.entity == entity)


def vocabulary_sizes(id_sizes: Mapping[str, int]) -> dict[str, int]:
    """Rows of each sparse feature's embedding table, in order.

    Args:
        id_sizes: sizes of the vocabularies that come from the data (`userid`, `itemid`), unknown counted.
    """
    sizes = {**FIXED_SIZES, **id_sizes}
    return {f.name: sizes[f.vocabulary] for f in SPARSE}


def feature_hash(columns: tuple[str, ...], sizes: Mapping[str, int], id_digest: str) -> str:
    """Fingerprint of all that a model and its callers must agree on.

    Args:
        columns: the features' names in the order used (`COLUMNS` unless a recorded order is being checked).
        sizes: as returned by `vocabulary_sizes`.
        id_digest: digest of the ids behind `user_index` and `item_index`, so that a model trained on other
            data, whose index 7 is another user, is refused even where the sizes agree.
    """
    declared = {f.name: {"kind": type(f).__name__, **asdict(f)} for f in FEATURES}
    content = {
        "features": [declared.get(name, name) for name in columns],
        "sizes": dict(sizes),
        "ids": id_digest,
        "recall": RECALL_FEATURES,
        "sequences": [TOWER_IMPRESSIONS, RANKER_IMPRESSIONS],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
