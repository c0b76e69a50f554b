"""docs/results.json: every number that the documents show, with the data set, seed, machine and load of each report.

The reports under RUN_DIR and the stages' metrics hold far more. Only what some document asks for is kept, so that the
file is small enough to read, and a change of it is a change of what readers are told.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.report import read_report
from benchmarks.speed.targets import targets
from data_exchange_center import catalogue
from data_exchange_center.artefact import Json
from data_exchange_center.settings import Settings
from docs.pages import RESULTS_FILE, all_pages, look_up, paths_in, templates

Results = dict[str, Any]

REPORTS = {
    "evaluate": "make evaluate",
    "ablation": "python -m benchmarks.quality.ablation",
    "bench": "make bench",
    "growth": "python -m benchmarks.speed.growth",
    "reloads": "python -m benchmarks.speed.reloads",
    "outages": "python -m benchmarks.speed.outages",
    "cluster_outages": "python -m benchmarks.speed.cluster_outages",
    "training": "python -m benchmarks.speed.training",
    "odd_requests": "python -m benchmarks.speed.odd_requests",
    "list_requests": "python -m benchmarks.speed.list_requests",
    "diversity": "python -m benchmarks.quality.diversity",
}
METRICS: dict[str, Json[Any]] = {
    "dataset": catalogue.DATASET,
    "terms": catalogue.TERM_RECALL_METRICS,
    "vectors": catalogue.VECTOR_RECALL_METRICS,
    "tower": catalogue.SEQUENCE_RECALL_METRICS,
    "models": catalogue.MODEL_METRICS,
    "ranker": catalogue.RANKER_METRICS,
}
PROVENANCE = ("dataset", "seed", "machine")
VERDICTS_IN_CHINESE = {"higher": "更高", "lower": "更低", "no difference shown": "没有显出差别"}


class WrongReport(Exception):
    """A report is not of the data set that the documents tell of."""

    is_expected = True


def read_results() -> Results:
    """What is committed."""
    results: Results = json.loads(RESULTS_FILE.read_text("utf-8"))
    return results


def measured_now(settings: Settings) -> Results:
    """The reports and metrics that exist, by section, with what is computed from them.

    Raises:
        WrongReport: one was measured on another data set or seed than the settings'.
    """
    found: Results = {name: read_report(settings, name) for name in REPORTS}
    found |= {
        name: json.loads(artefact.file.read_text("utf-8")) if artefact.file.exists() else None
        for name, artefact in METRICS.items()
    }
    if found["evaluate"] and not found["evaluate"]["server_and_artefacts"]:
        del found["evaluate"]  # of the artefacts alone, where the documents tell of the server's lists
    sections: Results = {name: dict(section) for name, section in found.items() if section}
    for name, section in sections.items():
        about = section.get("dataset"), section.get("seed", settings.seed)
        again = REPORTS.get(name, "make offline")
        if about != (settings.dataset_name, settings.seed):
            raise WrongReport(
                f"the report {name} was measured on {about[0]} with the seed {about[1]}, not on "
                f"{settings.dataset_name} with {settings.seed}: measure again with `{again}`."
            )
    for name, complete in COMPLETED.items():
        if name in sections:
            complete(sections[name])
    return sections


# --- what is computed from the reports -------------------------------------------------------------------------------


def _complete_evaluation(report: Results) -> None:
    recall = {name: metrics["recall@50"]["value"] for name, metrics in report["systems"].items()}
    report["times_popularity"] = recall["recommender"] / recall["popularity"]
    new_users = report["new_users"]
    by_events = [metrics["gain over popularity"] for metrics in new_users["by_events"].values()]
    for metrics in (*report["differences"].values(), *by_events, new_users["one_event"]["gain"]):
        for difference in metrics.values():
            difference["verdict_zh"] = VERDICTS_IN_CHINESE[difference["verdict"]]


def _complete_ablation(report: Results) -> None:
    report["variants"] = {
        line["variant"]: {**line, "verdict_zh": VERDICTS_IN_CHINESE[line["verdict"]]} for line in report["variants"]
    }


def _complete_bench(report: Results) -> None:
    report["targets"] = {t.what: {"measured": t.measured, "met": "✓" if t.met else "✗"} for t in targets(report)}


def _count_failed(outcome: Results) -> None:
    """Requests that did not get a list, whatever the reason."""
    with_list = outcome["statuses"].get("200", 0) - outcome["responses_without_items"]
    outcome["failed"] = outcome["requests"] + outcome["connection_errors"] - with_list


def _complete_cluster_outages(report: Results) -> None:
    """Nodes of one service and role together: sums of what is counted, the largest of what is timed."""
    together: dict[str, list[Results]] = {}
    for node in report["nodes"]:
        together.setdefault(f"{node['node'].split('-')[0]} {node['role']}".strip(), []).append(node)
    counted = ("requests", "errors", "lists", "degraded_lists", "events_accepted")
    timed = ("whole_again_s", "p50_ms", "p99_ms", "slowest_event_ms")
    report["services"] = {
        service: {"nodes": len(nodes)}
        | {name: sum(node[name] for node in nodes) for name in counted}
        | {name: max(node[name] for node in nodes) for name in timed}
        for service, nodes in together.items()
    }
    report["memory"] = sum(report["memory_mib"].values())


COMPLETED: Mapping[str, Callable[[Results], None]] = {
    "evaluate": _complete_evaluation,
    "ablation": _complete_ablation,
    "bench": _complete_bench,
    "reloads": lambda report: _count_failed(report["reloads"]),
    "outages": _count_failed,
    "cluster_outages": _complete_cluster_outages,
}


# --- what is kept ----------------------------------------------------------------------------------------------------


def asked_for() -> list[tuple[str, ...]]:
    """The paths of all results that the documents show."""
    pages = [page.read_text("utf-8") for page in all_pages()]
    return sorted({path for page in pages for template, _ in templates(page) for path in paths_in(template)})


def kept(sections: Mapping[str, Any], old: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> Results:
    """What docs/results.json holds: the paths asked for, from the section as measured now, else as it was before.

    Raises:
        MissingResult: neither has a path.
    """
    results: Results = {}
    sections_shown = set()
    for path in paths:
        sections_shown.add(path[0])
        _put(results, path, look_up(sections if path[0] in sections else old, path))
    for section in sorted(sections_shown):
        source = sections.get(section) or old[section]
        for key in PROVENANCE:
            if key in source:
                _put(results, (section, key), source[key])
    return dict(sorted(results.items()))


def _put(results: Results, path: tuple[str, ...], value: Any) -> None:
    place = results
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = float(f"{value:.6g}") if isinstance(value, float) else value


def write_results(results: Results) -> None:
    """Replaces docs/results.json."""
    RESULTS_FILE.write_text(json.dumps(results, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
