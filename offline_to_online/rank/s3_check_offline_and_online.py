"""The consistency check: for every user and item, what is served is what was trained.

    python -m offline_to_online.rank.s3_check_offline_and_online

In this order; at the first kind that differs it prints a table of the differences and ends with status 1:

1. the features' order and hash of the served model = the declaration;
2. every weight in the served model's file = the trained one;
3. every feature of every user and item in Feast = the offline artefacts, exactly; for a user with live events, = the
   window counted from scratch over the artefacts' rows and the events;
4. for every user, with items drawn from the latest impressions, and for every item: Triton's score of the features
   from Feast = PyTorch's score of the features from the artefacts, to 1e-5.
"""

import sys
from collections.abc import Iterator

from tabulate import tabulate

from data_exchange_center import catalogue
from data_exchange_center.arrays import Int64Array
from data_exchange_center.artefact import Artefacts
from data_exchange_center.columns import Column
from data_exchange_center.features import COLUMNS, JOIN_KEYS, Entity, entity_columns, feature_hash, vocabulary_sizes
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.tables import to_matrix
from offline_to_online.loader import LOADER_TIMEOUT
from offline_to_online.rank import expected_features
from offline_to_online.rank.consistency import (
    Difference,
    column_differences,
    feature_differences,
    pairs_to_score,
    score_differences,
)
from offline_to_online.rank.exported_model import first_different_weight, state_digest, trained_model
from offline_to_online.rank.model_repository import model_folder, versions
from online.callers.feast_caller import FeastCaller
from online.callers.redis_caller import RedisCaller
from online.callers.triton_caller import TritonCaller

READS = (
    catalogue.DATASET,
    *expected_features.READS,
    catalogue.DEEPFM_META,
    catalogue.DEEPFM_MODEL,
    catalogue.BLEND,
)
WRITES: Artefacts = ()

SHOWN = 10  # differences of a kind in the printed table


def differences_by_kind(settings: Settings) -> Iterator[tuple[str, list[Difference]]]:
    """The differences of one kind after the other, so that the first kind that differs is the one reported."""
    dataset, meta = catalogue.DATASET.load(), catalogue.DEEPFM_META.load()
    declared = feature_hash(COLUMNS, vocabulary_sizes(dataset.id_sizes), dataset.id_digest)
    triton, feast = TritonCaller(settings, LOADER_TIMEOUT), FeastCaller(settings, LOADER_TIMEOUT)
    served, model = triton.model(), trained_model()
    yield (
        "the order of the features",
        column_differences(meta.columns, meta.feature_hash, declared, "trained model")
        or column_differences(served.columns, served.feature_hash, declared, "served model"),
    )

    folder = model_folder(settings)
    file = folder / str(max(versions(folder), default=0)) / "model.onnx"
    weight = first_different_weight(model, file)
    digest = state_digest(model)
    if not weight and served.state_digest != digest:
        weight = f"Triton serves the weights {served.state_digest or 'none'}, but {digest} were trained"
    blend = catalogue.BLEND.load().weight
    if not weight and served.blend_weight != blend:
        weight = f"Triton's model is blended with the weight {served.blend_weight}, but {blend} was chosen"
    yield "the weights", [{"difference": weight}] if weight else []

    ids: list[Int64Array] = []
    offline: list[Int64Array] = []
    online: list[Int64Array] = []
    events = RedisCaller(settings, LOADER_TIMEOUT).events()
    entities: tuple[Entity, ...] = ("user", "item")
    for entity in entities:
        table = expected_features.expected_features(entity, events)
        ids.append(table[JOIN_KEYS[entity]].to_numpy())
        offline.append(to_matrix(table, entity_columns(entity)))
        values, known = feast.all_features(entity, ids[-1].tolist())
        online.append(values)
        yield (
            f"the features of {len(ids[-1]):,} {entity}s",
            feature_differences(entity, ids[-1], offline[-1], values, known),
        )

    impressions = catalogue.OFFLINE_IMPRESSIONS.load([Column.USERID, Column.ITEMID])
    pairs = pairs_to_score(impressions[Column.USERID].to_numpy(), impressions[Column.ITEMID].to_numpy(), ids[0], ids[1])
    yield (
        f"the scores of {len(pairs[0]):,} pairs of all users and items",
        score_differences(model, triton, (offline[0], offline[1]), (online[0], online[1]), (ids[0], ids[1]), pairs),
    )


def main() -> None:
    """Prints each kind that is equal; at the first that is not, prints its table and ends with status 1."""
    name = catalogue.DATASET.load().dataset
    for what, differences in differences_by_kind(Settings()):
        if differences:
            print(tabulate(differences[:SHOWN], headers="keys"))
            print(
                f"error: data set {name}: {what} differ between offline and online in {len(differences):,} places.",
                file=sys.stderr,
            )
            sys.exit(1)
        print(f"data set {name}: {what} are equal offline and online")


if __name__ == "__main__":
    run_stage(main)
