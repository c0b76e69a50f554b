"""Builds the declared features: the training frame, and the entities for serving, from one declaration.

    python -m offline.rank.s1_feature_engi

The order, the names and the types come from data_exchange_center/features.py. The training frame is made by an engine
(offline/engines/engine.py), the entities here. A training row gets the history window
just before it; a user's serving row gets the newest one; both were counted by the same function. A declared feature
whose column no earlier stage has made is computed by its function in offline/rank/derived_features.py. No value is
scaled here: that is a layer of the model, so that the services carry counts that a person can read.
"""

import pyarrow as pa

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.commit import writing
from data_exchange_center.documents import FeatureDocument
from data_exchange_center.features import FeatureSet
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.tables import side_by_side
from offline.engines.engine import engine_of
from offline.rank.derived_features import add_derived

READS = (
    catalogue.DATASET,
    catalogue.USERS,
    catalogue.ITEMS,
    catalogue.OFFLINE_IMPRESSIONS,
    catalogue.HISTORY,
    catalogue.USER_HISTORY,
    catalogue.ITEM_GENRES,
)
WRITES = (catalogue.TRAINING_FRAME, catalogue.USER_FEATURES, catalogue.ITEM_FEATURES, catalogue.FEATURE_META)


def profile_schema(features: FeatureSet) -> pa.Schema:
    """The user's id and features but for the history, which differs from one training row to the next."""
    history = features.history_counts
    return pa.schema([field for field in catalogue.USER_FEATURES.present_schema if field.name not in history])


def main() -> None:
    """Entities, then the training frame from the entities."""
    dataset = catalogue.DATASET.load()
    features = dataset.features
    profile = profile_schema(features)
    users = add_derived(catalogue.USERS.load(), profile).select(profile.names)
    serving_users = side_by_side(users, catalogue.USER_HISTORY.load())
    items = side_by_side(catalogue.ITEMS.load(), catalogue.ITEM_GENRES.load())
    items = add_derived(items, catalogue.ITEM_FEATURES.present_schema)
    item_features = items.select([Column.ITEMID, *features.item_columns])

    document = FeatureDocument(
        dataset=dataset.dataset,
        columns=features.columns,
        vocabulary_sizes=dataset.vocabulary_sizes,
        id_digest=dataset.id_digest,
        feature_hash=dataset.feature_hash,
    )
    with engine_of(Settings()) as engine, writing(WRITES) as out:
        frame = engine.training_frame(catalogue.OFFLINE_IMPRESSIONS, catalogue.HISTORY, users, item_features, features)
        out.save(catalogue.TRAINING_FRAME, frame)
        out.save(catalogue.USER_FEATURES, serving_users.select([Column.USERID, *features.user_columns]))
        out.save(catalogue.ITEM_FEATURES, item_features)
        out.save(catalogue.FEATURE_META, document)
    rows = dataset.rows.train + dataset.rows.test
    print(
        f"{len(features.columns)} features, hash {document.feature_hash}: {rows:,} training and test rows, "
        f"{len(users):,} users, {len(items):,} items"
    )


if __name__ == "__main__":
    run_stage(main)
