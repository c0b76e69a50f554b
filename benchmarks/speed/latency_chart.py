"""The chart of the benchmark's report: where a request's time goes, and the throughput."""

from pathlib import Path

from benchmarks.drawing import OWN, chart
from benchmarks.report import Report

STAGE_COLOURS = ("#d64545", "#f0b429", "#3ebd93", OWN)
REST_COLOUR = "#cbd2d9"


def latency(report: Report, folder: Path) -> Path:
    """Median time of each stage of a request by the number of clients, and requests a second."""
    loads = report["requests"]["clients"]
    names = list(loads)
    file = folder / "latency.png"
    with chart(file, report["dataset"], 10.5, 3.0, 2) as (left, right):
        places = list(range(len(names) - 1, -1, -1))
        start = [0.0] * len(names)
        for stage, colour in zip(loads[names[0]]["stage_p50_ms"], STAGE_COLOURS, strict=False):
            widths = [loads[name]["stage_p50_ms"][stage] for name in names]
            left.barh(places, widths, left=start, label=stage, color=colour)
            start = [begun + width for begun, width in zip(start, widths, strict=True)]
        rest = [max(loads[name]["p50_ms"] - begun, 0.0) for name, begun in zip(names, start, strict=True)]
        left.barh(places, rest, left=start, label="web server and waiting", color=REST_COLOUR)
        left.set_yticks(places, [f"{name} client{'s' * (name != '1')}" for name in names])
        left.set(title="A request's median time by stage, milliseconds", xscale="linear")
        left.legend(fontsize=7, frameon=False)
        right.plot([int(n) for n in names], [loads[n]["requests_per_second"] for n in names], marker="o", color=OWN)
        right.set(title="Requests a second by clients", xlabel="clients", ylim=(0, None))
        right.set_xscale("log", base=2)
        right.set_xticks([int(n) for n in names], names)
    return file
