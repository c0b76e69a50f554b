"""Trains DeepFM and chooses how its logit and the recall score are blended.

    python -m offline.rank.s2_model_train

What the MLP sees, and the epoch to stop at, are chosen by AUC on `valid`; the chosen model is then fitted again with
the valid rows, for as many epochs, and `test` is read once. The weight of the blend is chosen by NDCG@50 on `valid`
over the whole funnel (recall as Elasticsearch does it, then the final score), with models that have not seen it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from data_exchange_center import catalogue
from data_exchange_center.columns import ITEM_INDEX, ITEMID, LABEL, SPLIT, USER_INDEX, USERID, Split
from data_exchange_center.features import COLUMNS
from data_exchange_center.stage import run_stage
from offline.fitting import state_on_cpu
from offline.metrics import auc, log_loss
from offline.rank.baselines import logistic_regression, popularity
from offline.rank.blend import NDCG, choose_blend
from offline.rank.deepfm import DeepInputs
from offline.rank.training import Rows, Settings, fit, score
from offline.recall.factorization_machine import FactorizationMachine
from offline.recall.fm_training import DIM, Pairs, pair_logits

READS = (
    catalogue.DATASET,
    catalogue.TRAINING_FRAME,
    catalogue.FEATURE_META,
    catalogue.ITEM_FEATURES,
    catalogue.FM_MODEL,
    catalogue.VALID_USER_VECTORS,
    catalogue.VALID_ITEM_VECTORS,
    catalogue.VECTOR_RECALL_METRICS,
)
WRITES = (catalogue.DEEPFM_MODEL, catalogue.DEEPFM_META, catalogue.MODEL_METRICS, catalogue.BLEND)

DEEP_INPUTS_TRIED: tuple[DeepInputs, ...] = ("dense", "dense+side", "dense+all")
MOST_EPOCHS = 30

Floats = npt.NDArray[np.floating]


def main() -> None:
    """Chooses on valid, fits again, measures on test, chooses the blend, saves."""
    dataset, meta = catalogue.load_json(catalogue.DATASET), catalogue.load_json(catalogue.FEATURE_META)
    seed: int = dataset["seed"]
    sizes: dict[str, int] = meta["vocabulary_sizes"]
    l2: float = catalogue.load_json(catalogue.VECTOR_RECALL_METRICS)["rated"]["l2"]  # the ids' penalty is FM's
    frame = catalogue.load_table(catalogue.TRAINING_FRAME)

    split = frame[SPLIT].to_numpy()
    is_part = {name: split == part for name, part in vars(Split).items() if name.isupper()}
    is_part["TRAINING"] = split != Split.TEST
    rows = Rows.from_table(frame)
    train, valid, test, training = (rows.select(is_part[p]) for p in ("TRAIN", "VALID", "TEST", "TRAINING"))

    tried = []
    candidates = []
    for deep_inputs in DEEP_INPUTS_TRIED:
        settings = Settings(l2, deep_inputs)
        model, best = fit(train, settings, sizes, seed, MOST_EPOCHS, valid)
        tried.append({"deep_inputs": deep_inputs, "l2": l2, "valid_auc": best.value, "curve": best.curve})
        candidates.append((best.value, settings, model, best.epochs))
    valid_auc, settings, valid_model, epochs = max(candidates, key=lambda c: c[0])
    deepfm, _ = fit(training, settings, sizes, seed, epochs)

    ids = Pairs(
        users=frame[USER_INDEX].to_numpy().astype(np.int64),
        items=frame[ITEM_INDEX].to_numpy().astype(np.int64),
        labels=frame[LABEL].to_numpy(),
        user_count=dataset["id_sizes"][USERID],
        item_count=dataset["id_sizes"][ITEMID],
    )
    pairs = {name: ids.select(part) for name, part in is_part.items()}
    fm = FactorizationMachine(ids.user_count, ids.item_count, DIM)
    fm.load_state_dict(catalogue.load_state(catalogue.FM_MODEL))
    logistic_valid_auc, logistic = logistic_regression(pairs["TRAINING"], pairs["TRAIN"], pairs["VALID"], pairs["TEST"])
    logits: dict[str, Floats] = {
        "popularity": popularity(pairs["TRAINING"], pairs["TEST"]),
        "logistic_regression": logistic,
        "fm": pair_logits(fm, pairs["TEST"]),
        "deepfm": score(deepfm, test),
    }
    blend = choose_blend(
        frame,
        catalogue.load_table(catalogue.ITEM_FEATURES),
        (catalogue.load_array(catalogue.VALID_USER_VECTORS), catalogue.load_array(catalogue.VALID_ITEM_VECTORS)),
        valid_model,
        seed,
    )
    weight = max(blend, key=lambda row: row[NDCG])["weight"]

    figures: dict[str, dict[str, Any]] = {
        name: {"test_auc": auc(test.labels, z), "log_loss": log_loss(test.labels, z)} for name, z in logits.items()
    }
    figures["deepfm"].update({"valid_auc": valid_auc, "l2": l2, "deep_inputs": settings.deep_inputs, "tried": tried})
    figures["logistic_regression"]["valid_auc"] = logistic_valid_auc
    with catalogue.writing(WRITES) as out:
        out.state(catalogue.DEEPFM_MODEL, state_on_cpu(deepfm))
        out.json(
            catalogue.DEEPFM_META,
            {
                "dataset": dataset["dataset"],
                "columns": list(COLUMNS),
                "feature_hash": meta["feature_hash"],
                "settings": deepfm.settings,
            },
        )
        out.json(
            catalogue.MODEL_METRICS,
            {
                "dataset": dataset["dataset"],
                "seed": seed,
                "rows": {name.lower(): int(part.sum()) for name, part in is_part.items()},
                **figures,
            },
        )
        out.json(catalogue.BLEND, {"dataset": dataset["dataset"], "weight": weight, "tried": blend})
    print(
        f"data set {dataset['dataset']}; DeepFM's MLP sees {settings.deep_inputs}, {epochs} epochs, L2 {l2:g}; on test:"
    )
    for name, figure in figures.items():
        print(f"  {name:<20} AUC {figure['test_auc']:.4f}  log loss {figure['log_loss']:.4f}")
    table = ", ".join(f"{row['weight']:g}: {row[NDCG]:.4f}" for row in blend)
    print(f"final score = DeepFM's logit × {weight:g} + recall score; {NDCG.upper()} on valid by weight: {table}")


if __name__ == "__main__":
    run_stage(main)
