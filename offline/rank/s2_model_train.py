"""Trains DeepFM and chooses how its logit and the recall score are blended.

    python -m offline.rank.s2_model_train

What the MLP sees, and the epoch to stop at, are chosen by AUC on `valid`; the chosen model is then fitted again with
the valid rows, for as many epochs, and `test` is read once. The weight of the blend is chosen by NDCG@50 on `valid`
over the whole funnel (recall as Elasticsearch does it, then the final score), with models that have not seen it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp
import torch
from sklearn.linear_model import LogisticRegression

from data_exchange_center import catalogue
from data_exchange_center.assembler import ITEM_COLUMNS, USER_COLUMNS, assemble
from data_exchange_center.columns import ITEM_INDEX, ITEMID, LABEL, SPLIT, USER_INDEX, USERID, Split
from data_exchange_center.features import COLUMNS, GENRE_FLAGS, HISTORY_COUNTS
from data_exchange_center.genre_history import liked_genres, window_counts
from data_exchange_center.scoring import final_scores
from data_exchange_center.stage import run_stage
from offline.fitting import state_on_cpu
from offline.metrics import auc, log_loss
from offline.rank.deepfm import DeepFM, DeepInputs
from offline.rank.funnel import ndcg, recall_candidates
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
LOGISTIC_C_TRIED = (0.03, 0.1, 0.3, 1.0)
WEIGHTS_TRIED = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
BLEND_USERS = 2048
BLEND_K = 50

Floats = npt.NDArray[np.floating]


def logistic_regression(pairs: Pairs, train: Pairs, valid: Pairs, test: Pairs) -> tuple[float, Floats]:
    """The baseline on the two ids alone: its AUC on valid, and its logits on test after a fit on `pairs`."""

    def one_hot(part: Pairs) -> sp.csr_matrix:
        columns = np.stack([part.users, part.user_count + part.items], axis=1).ravel()
        rows = np.arange(0, len(columns) + 1, 2)
        return sp.csr_matrix(
            (np.ones(len(columns)), columns, rows), (len(part.users), part.user_count + part.item_count)
        )

    def fitted(part: Pairs, c: float) -> LogisticRegression:
        return LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(one_hot(part), part.labels)

    encoded = one_hot(valid)
    figures = {c: auc(valid.labels, fitted(train, c).decision_function(encoded)) for c in LOGISTIC_C_TRIED}
    best = max(figures, key=lambda c: figures[c])
    return figures[best], fitted(pairs, best).decision_function(one_hot(test))


def popularity(training: Pairs, test: Pairs) -> Floats:
    """The item's positives in the training rows, as logits: a logistic regression on their logarithm."""
    counts = np.log1p(np.bincount(training.positives().items, minlength=training.item_count))[:, None]
    model = LogisticRegression().fit(counts[training.items], training.labels)
    logits: Floats = model.decision_function(counts[test.items]) * np.sign(model.coef_[0, 0] or 1)
    return logits


def choose_blend(
    frame: pa.Table,
    item_features: pa.Table,
    vectors: tuple[Floats, Floats],
    model: DeepFM,
    seed: int,
) -> list[dict[str, float]]:
    """NDCG@50 on valid for each weight tried, over the whole funnel as it stood after the train rows.

    Args:
        frame: catalogue entry TRAINING_FRAME; its user_index rises.
        item_features: catalogue entry ITEM_FEATURES.
        vectors: user and item vectors fitted without the valid rows.
        model: DeepFM fitted without the valid rows.
        seed: draws the users where there are more than BLEND_USERS.
    """
    user, item = (frame[name].to_numpy().astype(np.int64) for name in (USER_INDEX, ITEM_INDEX))
    split, labels = frame[SPLIT].to_numpy(), frame[LABEL].to_numpy()
    train, wanted = split == Split.TRAIN, (split == Split.VALID) & (labels == 1)
    users = np.unique(user[wanted & (item > 0)])
    users = np.sort(np.random.default_rng(seed).permutation(users)[:BLEND_USERS])

    in_vocabulary = item_features.filter(pa.array(item_features[ITEM_INDEX].to_numpy() > 0)).sort_by(ITEM_INDEX)
    items = np.stack([in_vocabulary[name].to_numpy() for name in ITEM_COLUMNS], axis=1).astype(np.int64)
    flags = np.stack([in_vocabulary[name].to_numpy() for name in GENRE_FLAGS], axis=1)
    positives = np.bincount(item[train & (labels == 1)], minlength=len(items) + 1)[1:]
    popularity_rank = np.argsort(np.lexsort((np.arange(len(items)), -positives)))

    # The state after the train rows, by the function that also made the training windows.
    first = np.searchsorted(user, users)
    ends = first + np.bincount(user[train], minlength=user.max(initial=0) + 1)[users]
    row_flags = np.stack([frame[name].to_numpy() for name in GENRE_FLAGS], axis=1)
    history = dict(zip(HISTORY_COUNTS, window_counts(row_flags, labels, first, ends).T, strict=True))
    user_rows = np.stack([history.get(name, frame[name].to_numpy()[first]) for name in USER_COLUMNS], axis=1).astype(
        np.int64
    )
    liked = liked_genres(np.stack([history[name] for name in HISTORY_COUNTS], axis=1))

    seen_matrix = sp.csr_matrix(
        (np.ones(train.sum(), bool), (user[train], item[train])), (user.max() + 1, len(items) + 1)
    )
    wanted_matrix = sp.csr_matrix((np.ones(wanted.sum(), bool), (user[wanted], item[wanted])), seen_matrix.shape)
    gains: list[Floats] = []
    for block in np.array_split(np.arange(len(users)), -(-len(users) // 256)):
        seen, relevant = (m[users[block]].toarray()[:, 1:] for m in (seen_matrix, wanted_matrix))
        found = recall_candidates(vectors[0][users[block]], vectors[1][1:], liked[block], flags, seen, popularity_rank)
        width = found.items.shape[1]
        sparse, dense = assemble(np.repeat(user_rows[block], width, axis=0), items[found.items.ravel()])
        rows = Rows(torch.from_numpy(sparse), torch.from_numpy(dense), np.empty(0, np.uint8))
        logits = score(model, rows).reshape(-1, width).astype(np.float64)
        gains.append(
            np.stack(
                [
                    ndcg(found.items, final_scores(logits, found.recall, w), found.present, relevant, BLEND_K)
                    for w in WEIGHTS_TRIED
                ],
                axis=1,
            )
        )
    means = np.concatenate(gains).mean(axis=0) if gains else np.zeros(len(WEIGHTS_TRIED))
    return [{"weight": w, f"ndcg@{BLEND_K}": float(m)} for w, m in zip(WEIGHTS_TRIED, means, strict=True)]


def main() -> None:
    """Chooses on valid, fits again, measures on test, chooses the blend, saves."""
    dataset, meta = catalogue.load_json(catalogue.DATASET), catalogue.load_json(catalogue.FEATURE_META)
    seed: int = dataset["seed"]
    sizes: dict[str, int] = meta["vocabulary_sizes"]
    l2: float = catalogue.load_json(catalogue.VECTOR_RECALL_METRICS)["rated"]["l2"]  # the ids' penalty is FM's
    frame = catalogue.load_table(catalogue.TRAINING_FRAME)
    torch.use_deterministic_algorithms(True)

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
    weight = max(blend, key=lambda row: row[f"ndcg@{BLEND_K}"])["weight"]

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
    table = ", ".join(f"{row['weight']:g}: {row[f'ndcg@{BLEND_K}']:.4f}" for row in blend)
    print(f"final score = DeepFM's logit × {weight:g} + recall score; NDCG@{BLEND_K} on valid by weight: {table}")


if __name__ == "__main__":
    run_stage(main)
