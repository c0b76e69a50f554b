"""Establishes that the benchmark's pieces measure what they say, and that a missed target is called missed."""

import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import growth
from benchmarks.speed.latency import critical_path, floor, under_load
from benchmarks.speed.latency_chart import latency
from benchmarks.speed.tables import bench_tables
from benchmarks.speed.targets import targets
from data_exchange_center import catalogue
from data_exchange_center.measured_process import run_measured
from data_exchange_center.settings import Settings
from offline_to_online.recall.item_index import LEAST_OVERLAP
from online.callers.es_caller import elasticsearch_client
from tests.conftest import Stack

STEP = {"seconds": 1.0, "peak_mib": 100.0}
LOAD: dict[str, Any] = {
    "requests_per_second": 200.0,
    "p50_ms": 5.0,
    "p95_ms": 8.0,
    "p99_ms": 10.0,
    "slowest_ms": 20.0,
    "statuses": {200: 100},
    "connection_errors": 0,
    "stage_p50_ms": {"redis": 0.2},
    "processor_ms_a_request": {"web": 3.0},
}
CALLS = {"redis": 0.2, "elasticsearch": 3.0, "feast": 2.0, "triton": 1.0, "critical_path": 4.2}
REPORT: dict[str, Any] = {
    "dataset": "d",
    "seed": 1,
    "machine": {"cores": 2, "load_average": [0.0, 0.0, 0.0]},
    "steps": {
        name: STEP
        for name in (
            "offline.preprocess.s1_data_split",
            "offline.preprocess.s2_term_trans",
            "offline.recall.s2_vector_recall",
            "offline.recall.s3_sequence_recall",
            "offline.rank.s1_feature_engi",
            "offline.rank.s2_model_train",
            "offline.rank.s3_candidate_ranker",
            "offline_to_online.recall.s1_user_to_redis",
        )
    },
    "deepfm_rows_a_second": 400_000,
    "requests": {
        "machine": {"cores": 2, "load_average": [0.0, 0.0, 0.0]},
        "web_pss_mib": 230,
        "floor": {
            "request_ms": 5.0,
            "calls_only_server_ms": 4.6,
            "calls_as_made_ms": CALLS,
            "calls_by_themselves_ms": CALLS,
            "request_over_calls_as_made": 1.19,
            "request_over_calls_by_themselves": 1.19,
            "calls_only_server_over_calls_as_made": 1.1,
            "calls_only_server_over_calls_by_themselves": 1.1,
        },
        "clients": {"1": LOAD, "16": LOAD},
    },
    "items": [{"factor": 1, "items": 3883}],
    "ratings": [
        {"factor": 1, "ratings": 1, "seconds": 1.0, "peak_mib": 1},
        {"factor": 10, "ratings": 10, "seconds": 9.0, "peak_mib": 5000},
    ],
}


def missed(report: dict[str, Any]) -> list[str]:
    return [target.what for target in targets(report) if not target.met]


def test_targets_that_are_met_and_targets_that_are_not() -> None:
    assert (
        not missed(REPORT)
        and "| d, seed 1" not in bench_tables(REPORT)
        and "Data set d, seed 1" in bench_tables(REPORT)
    )
    slow = deepcopy(REPORT)
    slow["steps"]["offline.rank.s2_model_train"] = {"seconds": 91.0, "peak_mib": 1.0}
    slow["steps"]["offline.rank.s3_candidate_ranker"] = {"seconds": 1.0, "peak_mib": 2049.0}
    slow["requests"]["clients"]["16"]["p99_ms"] = 15.1
    slow["requests"]["floor"]["request_over_calls_as_made"] = 1.21
    slow["ratings"][1]["seconds"] = 11.1
    assert missed(slow) == [
        "DeepFM: the same, and baselines",
        "ranker: lists, choice, measured and served fits",
        "one client, p50 over its calls without the request",
        "16 clients, p99 over p50",
        "preprocess 10 × the ratings",
    ]
    failing = deepcopy(REPORT)
    failing["requests"]["clients"]["16"]["statuses"] = {200: 99, 500: 1}
    assert missed(failing) == ["16 clients for 30 s"]
    assert "| 16 clients for 30 s " in bench_tables(failing) and bench_tables(failing).count("| no ") == 1


def test_the_chart_of_a_report_goes_where_it_is_told_to(tmp_path: Path) -> None:
    """And the same report gives the same bytes."""
    file = latency(REPORT, tmp_path)
    first = file.read_bytes()
    assert file == tmp_path / "latency.png" and first.startswith(b"\x89PNG")
    assert latency(REPORT, tmp_path).read_bytes() == first


def test_a_process_is_measured_by_its_own_memory() -> None:
    """It is not measured by what its parent held, which is made large first."""
    ballast = bytearray(400 * 2**20)
    used = run_measured([sys.executable, "-c", "import time; x = bytearray(100 * 2**20); time.sleep(0.2)"])
    assert 100 < used.peak_mib < 250 and 0.2 < used.seconds < 5 and len(ballast)
    with pytest.raises(subprocess.CalledProcessError):
        run_measured([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_floor_is_made_of_the_calls_and_lies_below_the_request(
    served: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.speed.latency.BLOCKS", 3)
    users = catalogue.USER_FILTER.load()["userid"].to_pylist()[:50]
    found = floor(Settings(), users)
    as_made, by_itself = dict(found["calls_as_made_ms"]), dict(found["calls_by_themselves_ms"])
    path = as_made.pop("critical_path")
    assert path == pytest.approx(sum(as_made.values())) and by_itself.pop("critical_path") == critical_path(by_itself)
    assert min(*as_made.values(), *by_itself.values()) > 0
    assert path < found["calls_only_server_ms"] < found["request_ms"]
    assert found["request_over_calls_as_made"] == round(found["request_ms"] / path, 2)
    loaded = under_load(Settings(), users, 4, 2.0)
    assert loaded["requests"] > 50 and set(loaded["statuses"]) == {200} and not loaded["connection_errors"]
    assert set(loaded["stage_p50_ms"]) == {"redis", "elasticsearch", "feast", "triton"}
    assert {"web", "elasticsearch", "feast", "triton", "redis"} <= set(loaded["processor_ms_a_request"])


def test_larger_catalogues_are_searched_approximately_and_removed_again(
    served: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "CATALOGUES", (1, 3))
    monkeypatch.setattr(growth, "SEARCHES", 20)
    monkeypatch.setenv("EXACT_SEARCH_UP_TO", "1682")
    rows = growth.items_in_elasticsearch(Settings())
    assert [(row["items"], row["search"]) for row in rows] == [(1682, "exact"), (3 * 1682, "approximate")]
    assert rows[0]["of_exact"] == 1 and rows[1]["of_exact"] >= LEAST_OVERLAP
    assert all(row["search_p50_ms"] > 0 and row["index_mib"] > 0 for row in rows) and rows[0]["of_first"] == 1
    indices = elasticsearch_client(Settings(), 5.0).indices.get_alias(index="*")
    assert not [name for name in indices if name.startswith("growth-")]
