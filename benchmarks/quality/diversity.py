"""What diversity costs and gains, on `valid`: the default of /recommend is chosen by this.

    python -m benchmarks.quality.diversity          (after `make offline`)

The lists are those that the funnel would have served at moments of `valid`, as the ranker's stage makes them. The net
that orders them is fitted to the lists of one half of the users; the lists of the other half are made diverse by the
server's own function and measured. Writes diversity.json and diversity.md under RUN_DIR.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.quality.comparison import difference, summary
from benchmarks.quality.list_metrics import PerUser
from benchmarks.quality.tables import with_interval
from benchmarks.report import Report, machine, measured_on, table, write_report
from data_exchange_center import catalogue
from data_exchange_center.arrays import Float32Array, Int64Array, UInt8Array
from data_exchange_center.columns import Column, Split
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from offline.fitting import Schedule
from offline.metrics import Bootstrap, interval
from offline.rank.candidate_lists import Impressions
from offline.rank.ranker import CandidateNet
from offline.rank.ranker_selection import half_of_users
from offline.rank.ranker_training import TrainingLists, fit_net, new_net, score_lists
from offline.rank.s3_candidate_ranker import VALID, lists_of
from offline.recall.interactions import read_parts
from offline.recall.sequences import Sequences
from offline.retrieval_metrics import ndcg_of_hits
from online.diversity import directions, diversified

TRIED = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
TOP = 50
MOST_LOSS = 0.01  # of NDCG@50, relative, that the default may cost
METRICS = (f"ndcg@{TOP}", f"likeness@{TOP}", f"genre likeness@{TOP}", "genres@10", f"genres@{TOP}")


def held_out_lists() -> tuple[TrainingLists, Float32Array, Float32Array, UInt8Array]:
    """Lists of valid whose users no fit has seen.

    Returns:
        l lists; [l, m] their rank scores; [items, dim] the directions of the items' vectors and [items, genres] their
        flags, by item_index.
    """
    dataset, chosen = catalogue.DATASET.load(), catalogue.RANKER_METRICS.load()
    parts, frame = read_parts(dataset), catalogue.TRAINING_FRAME.load()
    others = catalogue.ITEM_FEATURES.load(), catalogue.ACTED_LISTS.load()
    impressions = Impressions.load(dataset.features, Sequences.of(parts.offline), frame, *others)
    funnel, block = VALID.funnel(parts.train), frame[Column.SPLIT].to_numpy() == Split.VALID
    lists = lists_of(impressions, funnel, block)
    half, alone = lists.of_half().to_learn(), lists.alone
    held_out = alone.select(~half_of_users(alone.users) & (alone.relevant > 0))
    vectors = torch.from_numpy(funnel.knowledge.embeddings())
    net, schedule = new_net(half.alone, vectors.shape[1], dataset.seed), Schedule[CandidateNet](chosen.epochs)
    fit_net(net, half.to_fit(chosen.acted_on), vectors, chosen.objective, schedule, dataset.seed)
    return held_out, score_lists(net, held_out, vectors), directions(funnel.knowledge.vectors), impressions.flags


def metrics_of(top: Int64Array, hits: Float32Array, relevant: int, vectors: Float32Array, genres: Float32Array) -> Any:
    """METRICS of one list.

    Args:
        top: [k] item_index of its items, best first.
        hits: [k] whether each is a positive.
        relevant: how many positives there are.
        vectors, genres: [items, d] directions.
    """

    def likeness(of: Float32Array) -> float:
        """The mean cosine of two items of the list."""
        rows = of[top]
        total = rows.sum(axis=0)
        return float((total @ total - (rows * rows).sum()) / max(len(top) * (len(top) - 1), 1))

    return (
        ndcg_of_hits(hits[None] > 0, np.array([relevant]), TOP)[0],
        likeness(vectors),
        likeness(genres),
        (genres[top[:10]] > 0).any(axis=0).sum(),
        (genres[top] > 0).any(axis=0).sum(),
    )


def metrics_by_diversity() -> tuple[Int64Array, Mapping[float, PerUser]]:
    """[l] the user of each list; [l] each metric, by diversity."""
    lists, scores, vectors, flags = held_out_lists()
    genres = (flags / np.maximum(np.sqrt(flags.sum(axis=1, keepdims=True)), 1)).astype(np.float32)
    candidates, labels = lists.candidates.numpy(), lists.labels.numpy()
    found = {diversity: np.zeros((len(candidates), len(METRICS))) for diversity in TRIED}
    for row, items in enumerate(candidates):
        present = np.flatnonzero(items)
        order = present[np.argsort(-scores[row, present], kind="stable")]
        for diversity in TRIED:
            chosen = order[diversified(scores[row, order], vectors[items[order]], diversity, TOP)]
            found[diversity][row] = metrics_of(
                items[chosen], labels[row, chosen], int(lists.relevant[row]), vectors, genres
            )
    return lists.users, {diversity: dict(zip(METRICS, values.T, strict=True)) for diversity, values in found.items()}


def loss_interval(plain: PerUser, diverse: PerUser, bootstrap: Bootstrap) -> tuple[float, tuple[float, float]]:
    """The share of NDCG that is lost, and its interval."""
    before, after = plain[METRICS[0]], diverse[METRICS[0]]
    lost = 1 - bootstrap.means(after) / bootstrap.means(before)
    return float(1 - after.mean() / before.mean()), interval(lost)


def measure(seed: int) -> dict[str, Any]:
    """The metrics by diversity, and the choice: the largest whose loss is at most MOST_LOSS, its interval included."""
    users, found = metrics_by_diversity()
    bootstrap, plain = Bootstrap(users, seed), found[0.0]
    by_diversity: dict[str, Any] = {}
    for diversity, values in found.items():
        loss, bounds = loss_interval(plain, values, bootstrap)
        by_diversity[f"{diversity:g}"] = {
            **summary(values, bootstrap),
            "ndcg_lost": {"value": loss, "interval": bounds},
            "difference": {name: difference(values[name], plain[name], bootstrap) for name in METRICS},
        }
    allowed = [d for d in TRIED if by_diversity[f"{d:g}"]["ndcg_lost"]["interval"][1] <= MOST_LOSS]
    return {"lists": len(users), "by_diversity": by_diversity, "chosen": max(allowed, default=0.0)}


def diversity_tables(report: Report) -> str:
    """The report as Markdown."""
    rows: list[list[object]] = [
        [
            diversity,
            *(with_interval(values[name]) for name in METRICS),
            f"{values['ndcg_lost']['value']:+.2%} ({values['ndcg_lost']['interval'][0]:+.2%} to "
            f"{values['ndcg_lost']['interval'][1]:+.2%})",
        ]
        for diversity, values in report["by_diversity"].items()
    ]
    parts = [
        "# Diversity of the list, on valid",
        f"{measured_on(report)} {report['lists']:,} lists with a positive, of users that no fit has seen. Likeness: "
        "the mean cosine of two items of a list, by their vectors and by their genres. Genres: how many there are. "
        "Intervals: 95 %, by bootstrap over users.",
        table(rows, ["diversity", *METRICS, "NDCG lost"]),
        f"Chosen: {report['chosen']:g}, the largest that loses at most {MOST_LOSS:.0%}, its interval included.",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measures, writes the report."""
    dataset = catalogue.DATASET.load()
    about = {"dataset": dataset.dataset, "seed": dataset.seed, "machine": machine()}
    report = {**about, **measure(dataset.seed)}
    text = diversity_tables(report)
    write_report(Settings(), "diversity", report, text)
    print(text)


if __name__ == "__main__":
    run_stage(main)
