"""The benchmark's report as Markdown tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report import Report, measured_on, table
from benchmarks.speed.targets import targets

SERVICES = {"redis": "Redis", "elasticsearch": "Elasticsearch", "feast": "Feast", "triton": "Triton"}
CALLS = {**SERVICES, "critical_path": "critical path"}
TIMES = ("p50_ms", "p95_ms", "p99_ms", "slowest_ms")


def _named(times: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {milliseconds}" for name, milliseconds in times.items())


def _targets(report: Report) -> str:
    lines: list[list[object]] = [[t.what, t.bar, t.measured, "yes" if t.met else "no"] for t in targets(report)]
    return table(lines, ["what", "bar", "measured", "met"])


def _steps(report: Report) -> str:
    lines: list[list[object]] = [
        [name, f"{step['seconds']:.1f}", f"{step['peak_mib']:.0f}"] for name, step in report["steps"].items()
    ]
    return table(lines, ["step, as a process of its own", "seconds", "peak MiB"])


def _loads(loads: Mapping[str, Any]) -> str:
    lines: list[list[object]] = [
        [
            clients,
            f"{load['requests_per_second']:.0f}",
            *(f"{load[time]:.1f}" for time in TIMES),
            _named(load["stage_p50_ms"]),
            _named(load["processor_ms_a_request"]),
        ]
        for clients, load in loads.items()
    ]
    headers = ["clients", "requests/s", "p50", "p95", "p99", "slowest", "stages' p50, ms", "processor ms a request"]
    return table(lines, headers)


def _calls(floor: Mapping[str, Any]) -> str:
    lines: list[list[object]] = [
        [what, *(floor[key].get(name, "") for name in CALLS)]
        for what, key in (
            ("as a request makes them", "calls_as_made_ms"),
            ("each by itself, over and over", "calls_by_themselves_ms"),
        )
    ]
    return table(lines, ["the calls alone, p50 ms", *CALLS.values()])


def _beside_the_calls(floor: Mapping[str, Any]) -> str:
    lines: list[list[object]] = [
        [what, floor[key], *(floor[f"{name}_over_calls_{way}"] for way in ("as_made", "by_themselves"))]
        for what, key, name in (
            ("a request", "request_ms", "request"),
            ("one to a server that only makes the calls", "calls_only_server_ms", "calls_only_server"),
        )
    ]
    return table(lines, ["beside them", "p50 ms", "× the calls as made", "× each by itself"])


def _growth(rows: Sequence[Mapping[str, Any]]) -> str:
    lines: list[list[object]] = [[f"{v:,}" if isinstance(v, int) else v for v in row.values()] for row in rows]
    return table(lines, list(rows[0]))


def bench_tables(report: Report) -> str:
    """The benchmark: targets, steps, load, floor, growth."""
    requests = report["requests"]
    load_before = ", ".join(map(str, requests["machine"]["load_average"]))
    parts = [
        "# Benchmark",
        measured_on(report),
        _targets(report),
        _steps(report),
        f"Load average before the requests: {load_before}. The clients share the cores with the servers.",
        _loads(requests["clients"]),
        _calls(requests["floor"]),
        _beside_the_calls(requests["floor"]),
        _growth(report["items"]),
        _growth(report["ratings"]),
    ]
    return "\n\n".join(parts) + "\n"
