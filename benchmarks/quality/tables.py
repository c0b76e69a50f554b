"""The evaluation's report as Markdown tables."""

from collections.abc import Mapping
from typing import Any

from benchmarks.report import Report, measured_on, table, value_in

COLUMNS = (
    ("recall@10", "recall@50", "recall@200", "ndcg@10", "ndcg@50"),
    ("hit_rate@10", "hit_rate@50", "mrr@10", "mrr@50"),
    ("coverage@50", "diversity@50", "novelty@50"),
)


def with_interval(metric: Any) -> str:
    """A metric, with its interval where it has one."""
    if not isinstance(metric, Mapping):
        return f"{metric:.3f}"
    return value_in(metric["value"], metric["interval"], ".3f")


def _introduction(report: Report) -> list[str]:
    rows, compared = report["rows"], report["server_and_artefacts"]
    sentences = [
        f"{measured_on(report)} Through {report['through']}: {rows['users']:,} users with {rows['positives']:,} "
        f"positives among their last {rows['online']:,} rows. Intervals: 95 %, by bootstrap over users."
    ]
    if compared:
        sentences.append(
            "The lists of the server and of the same recommender on the artefacts alone: of "
            f"{compared['users_compared']:,} users {compared['identical']:,} identical, "
            f"{compared['the_same_but_for_ties']:,} the same but for items whose scores tie, 0 different; "
            f"{compared['left_out_for_their_events']:,} users left out for their live events."
        )
    return sentences


def _systems(report: Report) -> list[str]:
    systems = report["systems"]
    return [
        table([[name, *(with_interval(systems[name][c]) for c in columns)] for name in systems], ["system", *columns])
        for columns in COLUMNS
    ]


def _differences(report: Report) -> str:
    lines: list[list[object]] = [
        [what, metric, value_in(d["value"], d["interval"], "+.3f"), d["verdict"]]
        for what, metrics in report["differences"].items()
        for metric, d in metrics.items()
    ]
    return table(lines, ["difference", "metric", "value", "verdict"])


def _groups(report: Report) -> str:
    groups = [(by, name, group) for by, named in report["groups"].items() for name, group in named.items()]
    # Every group holds the same metrics of the same systems.
    columns = [(s, m) for s, metrics in groups[0][2].items() if s != "users" for m in metrics]
    lines: list[list[object]] = [
        [by, name, f"{group['users']:,}", *(with_interval(group[s][m]) for s, m in columns)]
        for by, name, group in groups
    ]
    return table(lines, ["by", "group", "users", *(f"{m}, {s}" for s, m in columns)])


def _recalls(report: Report) -> str:
    shares = report["recalls"]
    lines: list[list[object]] = [
        [name, f"{recall['alone']:.3f}", f"{recall['adds']:+.3f}"]
        for name, recall in shares.items()
        if isinstance(recall, Mapping)
    ]
    lines += [[name, f"{shares[name]:.3f}", ""] for name in ("all together", "served")]
    return table(lines, ["Recall@200", "alone", "adds to the others"])


def _new_users(report: Report) -> str:
    users = report["new_users"]
    lines: list[list[object]] = []
    for events, metrics in users["by_events"].items():
        gain = metrics["gain over popularity"]["ndcg@10"]
        shown = value_in(gain["value"], gain["interval"], "+.3f")
        lines.append([events, *(with_interval(metrics[name]) for name in ("ndcg@10", "recall@50")), shown])
    return table(lines, ["events of a new user", "ndcg@10", "recall@50", "gain of ndcg@10 over popularity"])


def _one_event(report: Report) -> list[str]:
    event = report["new_users"]["one_event"]
    if not event:
        return []
    gain = event["gain"]["ndcg@10"]
    shared, unchanged = event["shared_items@50"], event["lists_unchanged"]
    return [
        f"One more event leaves {shared:.1%} of the top 50 in the list, and {unchanged:.1%} of the lists as they were; "
        f"NDCG@10 {value_in(gain['value'], gain['interval'])}."
    ]


def evaluation_tables(report: Report) -> str:
    """The evaluation: systems, differences, groups, funnel, AUC, calibration."""
    funnel: list[list[object]] = [[step, f"{share:.3f}"] for step, share in report["funnel"].items()]
    aucs: list[list[object]] = [[name, with_interval(metric)] for name, metric in report["auc"].items()]
    parts = [
        "# Evaluation on the online rows",
        *_introduction(report),
        *_systems(report),
        _differences(report),
        _recalls(report),
        _new_users(report),
        *_one_event(report),
        _groups(report),
        table(funnel, ["funnel", "share of positives"]),
        table(aucs, ["AUC on all online rows", ""]),
        f"Expected calibration error of the served logit on the online rows: {report['calibration']['error']:.4f}.",
    ]
    return "\n\n".join(parts) + "\n"
