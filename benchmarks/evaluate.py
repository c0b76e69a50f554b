"""How good the recommendations are: replays the online rows through the running server, beside what it is to beat.

    python -m benchmarks.evaluate               (or: make evaluate, while `make run` is up)
    python -m benchmarks.evaluate --offline     the same recommender code on the artefacts alone, no server

For each user: the list against the positives among their last 10 rows. The lists of the server must be those of the
recommender on the artefacts; else the status is 1. Writes `.run/evaluate.json` and `.run/evaluate.md`, and the charts
under `pic/`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import systems
from benchmarks.artefact_callers import ArtefactCallers, artefact_callers
from benchmarks.charts import draw_evaluation
from benchmarks.list_metrics import KS, Items, Lists, accuracy, beyond_accuracy, coverage
from benchmarks.load import machine
from benchmarks.replay import ReplayError, check_served, replay
from benchmarks.report import evaluation_tables, verdict
from data_exchange_center import catalogue
from data_exchange_center.assembler import assemble
from data_exchange_center.columns import AGE, GENDER, ITEMID, LABEL, USERID
from data_exchange_center.scoring import RECALL_SIZE, final_scores
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from data_exchange_center.vocabularies import AGE_INDEX, AGE_LABELS, GENDER_INDEX
from offline.metrics import Bootstrap, auc, calibration, interval
from online.callers.feast_caller import FeastCaller
from online.callers.redis_caller import RedisCaller
from online.callers.triton_caller import TritonCaller
from online.callers.types import ScoredItem
from online.recommender import FeatureStore, RankingModel, Recommendation

SERVED = "recommender"
BASELINES = {
    "popularity": "popularity",
    "term": "term recall alone",
    "vector": "vector recall alone",
    "recalls": "both recalls, not ranked",
    "everything by logit": "ranking over everything, by DeepFM alone",
    "everything by score": "ranking over everything, by the final score",
    "not refitted": "recommender, not refitted to all offline rows",
}
TIE = 1e-4  # scores of two items closer than this may stand in either order: Elasticsearch's and Triton's are float32
SCORED_AT_A_TIME = 256
TIMEOUT = 30.0

DIFFERENCE_METRICS = (f"recall@{KS[1]}", f"ndcg@{KS[1]}", f"ndcg@{KS[0]}")
GROUP_METRICS = DIFFERENCE_METRICS[:2]

Figures = dict[str, Any]
Scores = npt.NDArray[np.float64]
PerUser = dict[str, Scores]  # [users] by metric


@dataclass(frozen=True)
class OnlineRows:
    """All online rows, and who has a positive among them."""

    userid: npt.NDArray[np.int64]
    itemid: npt.NDArray[np.int64]
    labels: npt.NDArray[np.uint8]

    def wanted(self) -> dict[int, list[int]]:
        """The positives of each user that has one."""
        found: dict[int, list[int]] = {}
        liked = self.labels == 1
        for user, item in zip(self.userid[liked].tolist(), self.itemid[liked].tolist(), strict=True):
            found.setdefault(user, []).append(item)
        return found


def online_rows() -> OnlineRows:
    """From the artefacts."""
    table = catalogue.load_table(catalogue.ONLINE_IMPRESSIONS, [USERID, ITEMID, LABEL])
    return OnlineRows(*(table[name].to_numpy() for name in (USERID, ITEMID, LABEL)))


def same_order(served: Sequence[tuple[int, float]], expected: Sequence[ScoredItem]) -> bool:
    """Whether two lists are the same, but for items whose scores tie.

    Args:
        served: (itemid, score), best first.
        expected: the recommender's on the artefacts.
    """
    if len(served) != len(expected):
        return False
    scores = {item.itemid: item.score for item in expected}
    return all(
        abs(score - own.score) < TIE and abs(scores.get(itemid, np.inf) - own.score) < TIE
        for (itemid, score), own in zip(served, expected, strict=True)
    )


def groups_of(users: Sequence[int]) -> dict[str, dict[str, npt.NDArray[np.bool_]]]:
    """[users] who belongs to which group, by what they are grouped by."""
    table = catalogue.load_table(catalogue.USERS)
    at = np.searchsorted(table[USERID].to_numpy(), users)
    rows = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS, [USERID])[USERID].to_numpy()
    counts = np.searchsorted(rows, users, "right") - np.searchsorted(rows, users, "left")
    few, many = np.quantile(counts, [1 / 3, 2 / 3])
    gender, age = table[GENDER].to_numpy()[at], table[AGE].to_numpy()[at]
    return {
        "ratings": {
            f"few (up to {few:.0f})": counts <= few,
            "between": (counts > few) & (counts <= many),
            f"many (over {many:.0f})": counts > many,
        },
        "gender": {str(name): gender == index for name, index in GENDER_INDEX.items()},
        "age": {AGE_LABELS[int(name)]: age == index for name, index in AGE_INDEX.items()},
    }


def scores_of_rows(
    rows: OnlineRows, feast: FeatureStore, triton: RankingModel, stores: ArtefactCallers
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The served logit and final score of every online row, recalled or not; users' features as they are now.

    Args:
        rows: n of them.
        feast, triton: the servers, or the artefacts.
        stores: the artefacts, for the recall score of what Elasticsearch does not return.

    Returns:
        [n] logits, [n] final scores.
    """
    users, of_user = np.unique(rows.userid, return_inverse=True)
    items, of_item = np.unique(rows.itemid, return_inverse=True)
    own, _ = feast.all_features("user", users.tolist())
    theirs, _ = feast.all_features("item", items.tolist())
    logits, weight = [], 0.0
    for start in range(0, len(rows.userid), SCORED_AT_A_TIME):
        block = slice(start, start + SCORED_AT_A_TIME)
        part, model = triton.score(*assemble(own[of_user[block]], theirs[of_item[block]]))
        logits.append(part)
        weight = model.blend_weight
    logit = np.concatenate(logits).astype(np.float64)
    known, index = stores.redis, stores.elasticsearch
    recall = np.zeros(len(rows.userid))
    for user, of_this in zip(users.tolist(), np.split(np.argsort(of_user, kind="stable"), _ends(of_user)), strict=True):
        if user in known.users:
            recall[of_this] = index.recall_scores(known.users[user])[np.searchsorted(index.ids, rows.itemid[of_this])]
    return logit, final_scores(logit, recall, weight).astype(np.float64)


def _ends(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.cumsum(np.bincount(groups))[:-1]


def summary(figures: Mapping[str, npt.NDArray[np.float64]], bootstrap: Bootstrap) -> Figures:
    """Mean and interval of each figure."""
    return {
        name: {"value": float(np.nanmean(values)), "interval": interval(bootstrap.means(values))}
        for name, values in figures.items()
        if np.isfinite(values).any()
    }


def difference(
    one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], bootstrap: Bootstrap
) -> dict[str, float | str | tuple[float, float]]:
    """Of two systems on the same users; called one only where its interval leaves out 0."""
    gain = one - other
    low, high = interval(bootstrap.means(gain))
    return {"value": float(np.nanmean(gain)), "interval": (low, high), "verdict": verdict(low, high)}


def funnel(lists: Mapping[int, Sequence[ScoredItem]], wanted: Lists, known: Sequence[int]) -> dict[str, float]:
    """Shares of all online positives that are left after each step."""
    total = sum(map(len, wanted.values()))
    steps = {"positives": total, "known items, not seen before": 0, "recalled": 0}
    steps |= {f"in the top {k}": 0 for k in reversed(KS)}
    seen = {user: set(items) for user, items in zip(*_filters(), strict=True)}
    catalogue_items = set(known)
    for user, items in wanted.items():
        possible = {item for item in items if item in catalogue_items} - seen.get(user, set())
        listed = [item.itemid for item in lists[user]]
        steps["known items, not seen before"] += len(possible)
        steps["recalled"] += len(possible & set(listed))
        for k in KS:
            steps[f"in the top {k}"] += len(possible & set(listed[:k]))
    return {step: count / max(total, 1) for step, count in steps.items()}


def _filters() -> tuple[list[int], list[list[int]]]:
    users, items = catalogue.load_table(catalogue.USER_FILTER).to_pydict().values()
    return users, items


def compare_with_server(
    settings: Settings, users: Sequence[int], expected: Mapping[int, Sequence[ScoredItem]]
) -> tuple[dict[int, list[ScoredItem]], Figures]:
    """The server's lists, and how many of them are those of the recommender on the artefacts.

    Raises:
        ReplayError: the server does not answer, has taken events of a user, or answers with another list.
    """
    check_served(settings)
    events = RedisCaller(settings, TIMEOUT).events()
    answers = replay(settings, users, RECALL_SIZE)
    lists = {
        user: [
            ScoredItem(i["itemid"], i["score"], i["recall_score"], i["logit"], tuple(i["recalled_by"]))
            for i in answers[user]["items"]
        ]
        for user in users
    }
    quiet = [user for user in users if user not in events]
    differing = [u for u in quiet if not same_order([(i.itemid, i.score) for i in lists[u]], expected[u])]
    identical = sum([i.itemid for i in lists[u]] == [i.itemid for i in expected[u]] for u in quiet)
    if differing:
        raise ReplayError(
            f"{len(differing):,} of {len(quiet):,} lists of the server are not those of the artefacts, first user "
            f"{differing[0]}'s: `make load`, then `make check`."
        )
    milliseconds: dict[str, list[float]] = {}
    for answer in answers.values():
        for stage, taken in answer["explain"]["milliseconds"].items():
            milliseconds.setdefault(stage, []).append(taken)
    return lists, {
        "users_compared": len(quiet),
        "identical": identical,
        "the_same_but_for_ties": len(quiet) - identical,
        "left_out_for_their_events": len(users) - len(quiet),
        "stage_p50_ms": {stage: round(float(np.median(taken)), 2) for stage, taken in milliseconds.items()},
    }


def compared_lists(
    users: Sequence[int],
    of: systems.Catalogue,
    stores: ArtefactCallers,
    served: Mapping[int, Sequence[ScoredItem]],
    own: Mapping[int, Recommendation],
) -> dict[str, Lists]:
    """The recommender's lists and those of all that it is compared with, by name."""
    by_term, by_vector = systems.recalled_alone(users, stores)
    by_logit, by_score = systems.ranked_everything(users, stores)
    not_refitted = systems.recommend(users, artefact_callers(refitted=False), "the same, not refitted")
    return {
        SERVED: {user: [item.itemid for item in items] for user, items in served.items()},
        BASELINES["popularity"]: systems.popular(users, of, stores.redis),
        BASELINES["term"]: by_term,
        BASELINES["vector"]: by_vector,
        BASELINES["recalls"]: {user: answer.candidates.itemids.tolist() for user, answer in own.items()},
        BASELINES["everything by logit"]: by_logit,
        BASELINES["everything by score"]: by_score,
        BASELINES["not refitted"]: {u: [item.itemid for item in a.items] for u, a in not_refitted.items()},
    }


def figures_of(lists: Lists, wanted: Lists, items: Items, users: Sequence[int]) -> PerUser:
    """[users] each metric of one system; NaN for users that it had no turn with, as the ranking over everything may."""
    figures = {**accuracy(lists, wanted, users), **beyond_accuracy(lists, items, users)}
    without = np.array([user not in lists for user in users])
    return {metric: np.where(without, np.nan, values) for metric, values in figures.items()}


def by_group(figures: Mapping[str, PerUser], users: Sequence[int], bootstrap: Bootstrap) -> Figures:
    """The recommender's and popularity's figures for each group of users."""
    report: Figures = {}
    for by, groups in groups_of(users).items():
        for group, members in groups.items():
            if members.any():
                found = report.setdefault(by, {}).setdefault(group, {"users": int(members.sum())})
                for name in (SERVED, BASELINES["popularity"]):
                    some = {m: np.where(members, figures[name][m], np.nan) for m in GROUP_METRICS}
                    found[name] = summary(some, bootstrap)
    return report


def scores_on_rows(rows: OnlineRows, logit: Scores, final: Scores, of: systems.Catalogue, seed: int) -> Figures:
    """AUC over all online rows with intervals, and the calibration of the logit."""
    bootstrap = Bootstrap(rows.userid, seed)
    place = dict(zip(of.by_popularity.tolist(), range(len(of.by_popularity), 0, -1), strict=True))
    popularity = np.array([place.get(item, 0) for item in rows.itemid.tolist()], np.float64)
    return {
        "auc": {
            name: {"value": auc(rows.labels, z), "interval": interval(bootstrap.aucs(rows.labels, z))}
            for name, z in (("DeepFM's logit", logit), ("final score", final), ("popularity", popularity))
        },
        "calibration": asdict(calibration(rows.labels, logit)),
    }


def evaluate(settings: Settings, offline: bool) -> Figures:
    """The report."""
    torch.set_num_threads(1)  # scores a list at a time: a second thread costs more than it brings
    dataset, rows = catalogue.load_json(catalogue.DATASET), online_rows()
    wanted = rows.wanted()
    users = sorted(wanted)
    of, stores = systems.read_catalogue(), artefact_callers()
    own = systems.recommend(users, stores, "recommender on artefacts")
    lists: dict[int, list[ScoredItem]] = {user: answer.items for user, answer in own.items()}
    comparison: Figures | None = None
    if not offline:
        lists, comparison = compare_with_server(settings, users, lists)

    tops = compared_lists(users, of, stores, lists, own)
    figures = {name: figures_of(found, wanted, of.items, users) for name, found in tops.items()}
    bootstrap = Bootstrap(np.array(users), dataset["seed"])
    logit, final = scores_of_rows(
        rows,
        stores.feast if offline else FeastCaller(settings, TIMEOUT),
        stores.triton if offline else TritonCaller(settings, TIMEOUT),
        stores,
    )
    return {
        "dataset": dataset["dataset"],
        "seed": dataset["seed"],
        "through": "artefacts alone" if offline else "the running server",
        "machine": machine(),
        "rows": {"online": len(rows.userid), "positives": int(rows.labels.sum()), "users": len(users)},
        "server_and_artefacts": comparison,
        "systems": {
            name: {**summary(of_system, bootstrap), **coverage(tops[name], len(of.items.ids))}
            for name, of_system in figures.items()
        },
        "differences": {
            f"{SERVED} - {name}": {
                metric: difference(figures[SERVED][metric], figures[name][metric], bootstrap)
                for metric in DIFFERENCE_METRICS
            }
            for name in BASELINES.values()
        },
        "groups": by_group(figures, users, bootstrap),
        "funnel": funnel(lists, wanted, of.items.ids.tolist()),
        **scores_on_rows(rows, logit, final, of, dataset["seed"]),
    }


def main() -> None:
    """Evaluates, writes the report, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--offline", action="store_true", help="the artefacts alone, without a server")
    arguments, settings = parser.parse_args(), Settings()
    report = evaluate(settings, arguments.offline)
    folder = settings.folder(settings.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluate.json").write_text(json.dumps(report, indent=2) + "\n")
    text = evaluation_tables(report)
    (folder / "evaluate.md").write_text(text)
    print(text)
    for picture in draw_evaluation(report):
        print(f"wrote {picture}")


if __name__ == "__main__":
    run_stage(main)
