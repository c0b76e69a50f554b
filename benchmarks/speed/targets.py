"""Each target of the project beside what was measured, and whether it is met."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.report import Report

PREPROCESSING = ("offline.preprocess.s1_data_split", "offline.preprocess.s2_term_trans")
FEATURES = ("offline.rank.s1_feature_engi",)
FM = ("offline.recall.s2_vector_recall",)
DEEPFM = ("offline.rank.s2_model_train",)
TOWER = ("offline.recall.s3_sequence_recall",)
RANKER = ("offline.rank.s3_candidate_ranker",)


@dataclass(frozen=True)
class Target:
    """What is measured, the bar that it should stay under or reach, and whether it does."""

    what: str
    bar: str
    measured: str
    met: bool


def _time_and_memory(report: Report) -> Callable[[tuple[str, ...]], tuple[float, float]]:
    """A function that gives the seconds of some steps together, and their largest peak in GiB."""
    steps = report["steps"]

    def measured(names: tuple[str, ...]) -> tuple[float, float]:
        return sum(steps[n]["seconds"] for n in names), max(steps[n]["peak_mib"] for n in names) / 1024

    return measured


def step_targets(report: Report) -> list[Target]:
    """Those of the stages and the loaders, each a process of its own."""
    measured, steps = _time_and_memory(report), tuple(report["steps"])
    loading, _ = measured(tuple(name for name in steps if name.startswith("offline_to_online")))
    whole, _ = measured(steps)
    targets = []
    for what, bar, names, most_seconds, most_gib in (
        ("s1 + s2 of preprocess", "4 s, 1 GiB", PREPROCESSING, 4, 1),
        ("features", "5 s, 1.5 GiB", FEATURES, 5, 1.5),
        ("FM: tuning, measured and served fits", "30 s", FM, 30, float("inf")),
        ("DeepFM: the same, and baselines", "90 s", DEEPFM, 90, float("inf")),
        ("user tower: chosen, measured and served fits", "2 GiB", TOWER, float("inf"), 2),
        ("ranker: lists, choice, measured and served fits", "2 GiB", RANKER, float("inf"), 2),
    ):
        seconds, gib = measured(names)
        met = seconds < most_seconds and gib < most_gib
        targets.append(Target(what, bar, f"{seconds:.1f} s, {gib:.2f} GiB", met))
    rate = report["deepfm_rows_a_second"]
    return [
        *targets,
        Target("DeepFM's training loop", "300,000 rows/s", f"{rate:,} rows/s", rate >= 300_000),
        Target("loading and reading back all", "60 s", f"{loading:.1f} s", loading < 60),
        Target("all that `make run` does after the install", "480 s", f"{whole:.0f} s", whole < 480),
    ]


def request_targets(report: Report) -> list[Target]:
    """Those of /recommend, with one client and with 16."""
    clients = report["requests"]["clients"]
    one, sixteen = clients["1"], clients["16"]
    over = report["requests"]["floor"]["request_over_calls_as_made"]
    rate, tail = sixteen["requests_per_second"], sixteen["p99_ms"] / sixteen["p50_ms"]
    memory = report["requests"]["web_pss_mib"]
    errors = len(set(sixteen["statuses"]) - {200, "200"}) + sixteen["connection_errors"]
    return [
        Target("one client, p50 over its calls without the request", "1.2", f"{over:.2f}", over <= 1.2),
        Target("one client, p50", "about 8 ms", f"{one['p50_ms']:.1f} ms", one["p50_ms"] <= 8.5),
        Target(
            "16 clients for 30 s",
            "150 requests/s, no error",
            f"{rate:.0f} requests/s, {errors} errors",
            rate >= 150 and not errors,
        ),
        Target("16 clients, p99 over p50", "3", f"{tail:.2f}", tail <= 3),
        Target("memory of the web server and its workers (PSS)", "240 MiB", f"{memory} MiB", memory <= 240),
    ]


def growth_target(report: Report) -> Target:
    """That of the preprocessing with ten times the ratings."""
    ratings = {row["factor"]: row for row in report["ratings"]}
    ratio, peak = ratings[10]["seconds"] / ratings[1]["seconds"], ratings[10]["peak_mib"]
    return Target(
        "preprocess 10 × the ratings",
        "11 × the time, 6 GiB",
        f"{ratio:.1f} ×, {peak / 1024:.1f} GiB",
        ratio <= 11 and peak < 6 * 1024,
    )


def targets(report: Report) -> list[Target]:
    """All of them."""
    return [*step_targets(report), *request_targets(report), growth_target(report)]
