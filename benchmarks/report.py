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


def verdict(low: float, high: float) -> str:
    """What the interval of a difference says of it."""
    return "higher" if low > 0 else "lower" if high < 0 else "no difference shown"


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


def bars(report: Report) -> list[list[object]]:
    """Each bar of the project beside what was measured."""
    steps, requests = report["steps"], report["requests"]

    def seconds(*names: str) -> float:
        return sum(steps[name]["seconds"] for name in names)

    def peak(*names: str) -> float:
        return max(steps[name]["peak_mib"] for name in names) / 1024

    split, terms = "offline.preprocess.s1_data_split", "offline.preprocess.s2_term_trans"
    features, fm, deepfm = (
        "offline.rank.s1_feature_engi",
        "offline.recall.s2_vector_recall",
        "offline.rank.s2_model_train",
    )
    loaders = [name for name in steps if name.startswith("offline_to_online")]
    one, sixteen, floor = requests["clients"]["1"], requests["clients"]["16"], requests["floor"]
    ratings = {row["factor"]: row for row in report["ratings"]}
    time_ratio = ratings[10]["seconds"] / ratings[1]["seconds"]
    tail = sixteen["p99_ms"] / sixteen["p50_ms"]
    errors = len(set(sixteen["statuses"]) - {200, "200"}) + sixteen["connection_errors"]
    over = floor["request_over_calls_as_made"]
    whole, loading = sum(step["seconds"] for step in steps.values()), seconds(*loaders)
    preprocessing, memory = seconds(split, terms), peak(split, terms)
    rows = (
        (
            "s1 + s2 of preprocess",
            "4 s, 1 GiB",
            f"{preprocessing:.1f} s, {memory:.2f} GiB",
            preprocessing < 4 and memory < 1,
        ),
        (
            "features",
            "5 s, 1.5 GiB",
            f"{seconds(features):.1f} s, {peak(features):.2f} GiB",
            seconds(features) < 5 and peak(features) < 1.5,
        ),
        ("FM: search, measured and served fits", "30 s", f"{seconds(fm):.1f} s, {peak(fm):.2f} GiB", seconds(fm) < 30),
        (
            "DeepFM: the same, baselines, blend",
            "90 s",
            f"{seconds(deepfm):.1f} s, {peak(deepfm):.2f} GiB",
            seconds(deepfm) < 90,
        ),
        (
            "DeepFM's training loop",
            "300,000 rows/s",
            f"{report['deepfm_rows_a_second']:,} rows/s",
            report["deepfm_rows_a_second"] >= 300_000,
        ),
        ("loading and reading back all", "60 s", f"{loading:.1f} s", loading < 60),
        ("all that `make run` does after the install", "480 s", f"{whole:.0f} s", whole < 480),
        ("one client, p50 over its calls without the request", "1.2", f"{over:.2f}", over <= 1.2),
        ("one client, p50", "about 8 ms", f"{one['p50_ms']:.1f} ms", one["p50_ms"] <= 8.5),
        (
            "16 clients for 30 s",
            "150 requests/s, no error",
            f"{sixteen['requests_per_second']:.0f} requests/s, {errors} errors",
            sixteen["requests_per_second"] >= 150 and not errors,
        ),
        ("16 clients, p99 over p50", "3", f"{tail:.2f}", tail <= 3),
        (
            "preprocess 10 × the ratings",
            "11 × the time, 6 GiB",
            f"{time_ratio:.1f} ×, {ratings[10]['peak_mib'] / 1024:.1f} GiB",
            time_ratio <= 11 and ratings[10]["peak_mib"] < 6 * 1024,
        ),
    )
    return [[what, bar, measured, "yes" if met else "no"] for what, bar, measured, met in rows]


def bench_tables(report: Report) -> str:
    """The benchmark: bars, steps, load, floor, growth."""
    requests = report["requests"]
    floor, loads = requests["floor"], requests["clients"]
    before = ", ".join(map(str, requests["machine"]["load_average"]))
    parts = [
        "# Benchmark",
        measured_on(report),
        table(bars(report), ["what", "bar", "measured", "met"]),
        table(
            [[name, f"{s['seconds']:.1f}", f"{s['peak_mib']:.0f}"] for name, s in report["steps"].items()],
            ["step, as a process of its own", "seconds", "peak MiB"],
        ),
        f"Load average before the requests: {before}. The clients share the cores with the servers.",
        table(
            [
                [
                    clients,
                    f"{r['requests_per_second']:.0f}",
                    *(f"{r[p]:.1f}" for p in ("p50_ms", "p95_ms", "p99_ms", "slowest_ms")),
                    ", ".join(f"{name} {ms}" for name, ms in r["stage_p50_ms"].items()),
                    ", ".join(f"{name} {ms}" for name, ms in r["processor_ms_a_request"].items()),
                ]
                for clients, r in loads.items()
            ],
            ["clients", "requests/s", "p50", "p95", "p99", "slowest", "stages' p50, ms", "processor ms a request"],
        ),
        table(
            [
                [
                    what,
                    *(
                        floor[key].get(name, "")
                        for name in ("redis", "elasticsearch", "feast", "triton", "critical_path")
                    ),
                ]
                for what, key in (
                    ("as a request makes them", "calls_as_made_ms"),
                    ("each by itself, over and over", "calls_by_themselves_ms"),
                )
            ],
            ["the calls alone, p50 ms", "Redis", "Elasticsearch", "Feast", "Triton", "critical path"],
        ),
        table(
            [
                [what, floor[key], *(floor[f"{name}_over_calls_{way}"] for way in ("as_made", "by_themselves"))]
                for what, key, name in (
                    ("a request", "request_ms", "request"),
                    ("one to a server that only makes the calls", "calls_only_server_ms", "calls_only_server"),
                )
            ],
            ["beside them", "p50 ms", "× the calls as made", "× each by itself"],
        ),
        table(
            [[f"{v:,}" if isinstance(v, int) else v for v in row.values()] for row in report["items"]],
            list(report["items"][0]),
        ),
        table(
            [[f"{v:,}" if isinstance(v, int) else v for v in row.values()] for row in report["ratings"]],
            list(report["ratings"][0]),
        ),
    ]
    return "\n\n".join(parts) + "\n"
