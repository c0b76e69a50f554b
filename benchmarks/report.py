"""Reports as Markdown tables."""

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

Report = Mapping[str, Any]

COLUMNS = (
    "recall@10",
    "recall@50",
    "ndcg@10",
    "ndcg@50",
    "hit_rate@10",
    "hit_rate@50",
    "mrr@10",
    "mrr@50",
    "coverage@50",
    "diversity@50",
    "novelty@50",
)


def table(rows: list[list[object]], headers: list[str]) -> str:
    """A Markdown table."""
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def figure(of: Any) -> str:
    """A figure, with its interval where it has one."""
    if not isinstance(of, Mapping):
        return f"{of:.3f}"
    low, high = of["interval"]
    return f"{of['value']:.3f} ({low:.3f} to {high:.3f})"


def measured_on(report: Report) -> str:
    """The sentence that stands over every table."""
    machine = report["machine"]
    load = ", ".join(map(str, machine["load_average"]))
    return f"Data set {report['dataset']}, seed {report['seed']}; {machine['cores']} cores, load average {load}."


def evaluation_tables(report: Report) -> str:
    """The evaluation: systems, differences, groups, funnel, AUC, calibration."""
    rows, compared = report["rows"], report["server_and_artefacts"]
    parts = [
        "# Evaluation on the online rows",
        f"{measured_on(report)} Through {report['through']}: {rows['users']:,} users with {rows['positives']:,} "
        f"positives among their last {rows['online']:,} rows. Intervals: 95 %, by bootstrap over users.",
    ]
    if compared:
        parts.append(
            "The lists of the server and of the same recommender on the artefacts alone: of "
            f"{compared['users_compared']:,} users {compared['identical']:,} identical, "
            f"{compared['the_same_but_for_ties']:,} the same but for items whose scores tie, 0 different; "
            f"{compared['left_out_for_their_events']:,} users left out for their live events."
        )
    names = list(report["systems"])
    for few in (COLUMNS[:4], COLUMNS[4:8], COLUMNS[8:]):
        parts.append(
            table([[n, *(figure(report["systems"][n][c]) for c in few)] for n in names], ["system", *few]),
        )
    lines = [
        [what, metric, f"{d['value']:+.3f} ({d['interval'][0]:+.3f} to {d['interval'][1]:+.3f})", d["verdict"]]
        for what, metrics in report["differences"].items()
        for metric, d in metrics.items()
    ]
    parts.append(table(lines, ["difference", "metric", "value", "verdict"]))
    lines = [
        [by, group, f"{found['users']:,}", *(figure(found[n][m]) for n in found if n != "users" for m in found[n])]
        for by, groups in report["groups"].items()
        for group, found in groups.items()
    ]
    some = next(iter(next(iter(report["groups"].values())).values()))
    headers = [f"{m}, {n}" for n in some if n != "users" for m in some[n]]
    parts.append(table(lines, ["by", "group", "users", *headers]))
    parts.append(
        table([[step, f"{share:.3f}"] for step, share in report["funnel"].items()], ["funnel", "share of positives"])
    )
    parts.append(table([[name, figure(of)] for name, of in report["auc"].items()], ["AUC on all online rows", ""]))
    parts.append(
        f"Expected calibration error of the served logit on the online rows: {report['calibration']['error']:.4f}."
    )
    return "\n\n".join(parts) + "\n"
