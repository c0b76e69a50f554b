"""How good the recommendations are: replays the online rows through the running server, beside what it should beat.

    python -m benchmarks.quality.evaluate               (or: make evaluate, while `make run` is up)
    python -m benchmarks.quality.evaluate --offline     the same recommender code on the artefacts alone, no server

Each user's list is compared with the positives among their last 10 rows. The lists of the server must be those of the
recommender on the artefacts; else the status is 1. Writes evaluate.json, evaluate.md and charts/ under RUN_DIR.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.quality.artefact_backends import ArtefactBackends
from benchmarks.quality.charts import draw_evaluation
from benchmarks.quality.comparison import differences, metrics_by_group, summary
from benchmarks.quality.item_catalogue import ItemCatalogue
from benchmarks.quality.list_metrics import KS, Lists, coverage, metrics_by_user
from benchmarks.quality.new_users import few_events
from benchmarks.quality.online_rows import OnlineRows, row_scores, score_metrics
from benchmarks.quality.server_lists import compare_with_server
from benchmarks.quality.systems import (
    BY_FM,
    BY_SEQUENCE,
    BY_TERM,
    NOT_RANKED,
    POPULARITY,
    SERVED,
    compared_lists,
    recommend,
)
from benchmarks.quality.tables import evaluation_tables
from benchmarks.report import charts_folder, machine, write_report
from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.metrics import Bootstrap
from online.callers.feast_caller import FeastCaller
from online.callers.triton_caller import TritonCaller
from online.callers.types import ScoredItem

TIMEOUT = 30.0  # seconds


def funnel(lists: Mapping[int, Sequence[ScoredItem]], relevant: Lists, known: Sequence[int]) -> dict[str, float]:
    """The share of all online positives that is left after each step.

    Args:
        lists: the RECALL_SIZE items of each user, best first.
        relevant: the positives of each user.
        known: itemids of the catalogue.
    """
    total = sum(map(len, relevant.values()))
    steps = {"positives": total, "known items, not seen before": 0, "recalled": 0}
    steps |= {f"in the top {k}": 0 for k in reversed(KS)}
    known_items, filters = set(known), catalogue.USER_FILTER.load()
    seen = dict(zip(filters[Column.USERID].to_pylist(), filters[Column.SEEN_ITEMS].to_pylist(), strict=True))
    for user, items in relevant.items():
        possible = known_items.intersection(items).difference(seen.get(user, ()))
        listed = [item.itemid for item in lists[user]]
        steps["known items, not seen before"] += len(possible)
        steps["recalled"] += len(possible.intersection(listed))
        for k in KS:
            steps[f"in the top {k}"] += len(possible.intersection(listed[:k]))
    return {step: count / max(total, 1) for step, count in steps.items()}


def recall_shares(lists: Mapping[str, Lists], relevant: Lists) -> dict[str, Any]:
    """Recall@RECALL_SIZE of each recall alone and of all together, and what each adds to the others.

    Args:
        lists: of the compared systems, by name.
        relevant: the positives of each user.
    """
    recalls = {name: lists[name] for name in (BY_TERM, BY_FM, BY_SEQUENCE)}

    def recall(names: Sequence[str]) -> float:
        found = []
        for user, items in relevant.items():
            recalled = set[int]().union(*(recalls[name].get(user, ()) for name in names))
            found.append(len(recalled.intersection(items)) / len(items))
        return float(np.mean(found)) if found else 0.0

    everything = recall(list(recalls))
    shares: dict[str, Any] = {
        name: {"alone": recall([name]), "adds": everything - recall([other for other in recalls if other != name])}
        for name in recalls
    }
    recalls["served"] = lists[NOT_RANKED]
    return {**shares, "all together": everything, "served": recall(["served"])}


def evaluate(settings: Settings, offline: bool) -> dict[str, Any]:
    """The report; `offline` evaluates the recommender on the artefacts in place of the server."""
    torch.set_num_threads(1)  # it scores one list at a time: a second thread costs more than it gains
    dataset, rows = catalogue.DATASET.load(), OnlineRows.load()
    relevant = rows.relevant()
    users = sorted(relevant)
    items, backends = ItemCatalogue.load(), ArtefactBackends.load()
    own = recommend(users, backends, "recommender on artefacts")
    served: dict[int, list[ScoredItem]] = {user: list(recommendation.items) for user, recommendation in own.items()}
    server: dict[str, Any] | None = None
    if not offline:
        served, server = compare_with_server(settings, users, served)

    lists = compared_lists(users, items, backends, served, own)
    metrics = {name: metrics_by_user(of_system, relevant, items, users) for name, of_system in lists.items()}
    bootstrap = Bootstrap(np.array(users), dataset.seed)
    logit, rank_score = row_scores(
        rows,
        backends.feature_store if offline else FeastCaller(settings, TIMEOUT),
        backends.ranking_model if offline else TritonCaller(settings, TIMEOUT),
        backends,
    )
    return {
        "dataset": dataset.dataset,
        "seed": dataset.seed,
        "through": "artefacts alone" if offline else "the running server",
        "machine": machine(),
        "rows": {"online": len(rows.userid), "positives": int(rows.labels.sum()), "users": len(users)},
        "server_and_artefacts": server,
        "systems": {
            name: {**summary(of_system, bootstrap), **coverage(lists[name], len(items.ids))}
            for name, of_system in metrics.items()
        },
        "differences": differences(metrics, SERVED, bootstrap),
        "groups": metrics_by_group({name: metrics[name] for name in (SERVED, POPULARITY)}, users, bootstrap),
        "funnel": funnel(served, relevant, items.ids.tolist()),
        **score_metrics(rows, logit, rank_score, items, dataset.seed),
        "recalls": recall_shares(lists, relevant),
        "new_users": few_events(relevant, backends, items, dataset.seed),
    }


def main() -> None:
    """Evaluates, writes the report, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--offline", action="store_true", help="the artefacts alone, without a server")
    arguments, settings = parser.parse_args(), Settings()
    report = evaluate(settings, arguments.offline)
    text = evaluation_tables(report)
    write_report(settings, "evaluate", report, text)
    print(text)
    for file in draw_evaluation(report, charts_folder(settings)):
        print(f"wrote {file}")


if __name__ == "__main__":
    run_stage(main)
