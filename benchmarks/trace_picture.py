"""Draws one request's trace: what it waited for, and when.

    TRACE_FILE=.run/traces.jsonl python -m benchmarks.trace_picture      (with the setting of the server that wrote it)

Of the requests in the file that went through all services the one of median duration is drawn, into charts/trace.png
under RUN_DIR.
"""

import argparse
import json
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.drawing import OTHER, chart
from benchmarks.report import charts_folder
from benchmarks.speed.latency_chart import STAGE_COLOURS
from data_exchange_center import catalogue
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from online.roles import SERVICES

Span = dict[str, Any]


class TraceError(Exception):
    """There is nothing to draw; the message says why and what to do."""

    is_expected = True


def seconds(span: Span) -> tuple[float, float]:
    """Beginning and end of a span, in seconds since 1970."""
    start, end = (datetime.fromisoformat(span[name]).timestamp() for name in ("start_time", "end_time"))
    return start, end


def median_trace(file: Path) -> list[Span]:
    """The spans of one request, its root first, the others by their beginnings.

    Raises:
        TraceError: no request in the file went through all services.
    """
    traces = defaultdict[str, list[Span]](list)
    for line in file.read_text("utf-8").splitlines():
        span = json.loads(line)
        traces[span["context"]["trace_id"]].append(span)
    whole = [spans for spans in traces.values() if {span["name"] for span in spans} >= set(SERVICES)]
    if not whole:
        raise TraceError(f"{file} has no request that went through all services: set TRACE_FILE, serve, and ask.")
    for spans in whole:
        spans.sort(key=lambda span: (seconds(span)[0], -seconds(span)[1]))
    whole.sort(key=lambda spans: seconds(spans[0])[1] - seconds(spans[0])[0])
    return whole[len(whole) // 2]


def draw(spans: list[Span], file: Path, dataset: str) -> Path:
    """A bar for each span, from the request's beginning on, in milliseconds."""
    colours = dict(zip(SERVICES, STAGE_COLOURS, strict=True))
    began, _ = seconds(spans[0])
    with chart(file, dataset, 7.5, 2.2) as (axis,):
        for place, span in enumerate(spans):
            start, end = ((moment - began) * 1000 for moment in seconds(span))
            axis.barh(-place, end - start, left=start, color=colours.get(span["name"], OTHER))
            axis.annotate(f"{end - start:.1f} ms", (end, -place), (4, 0), textcoords="offset points", va="center")
        axis.set_yticks([-place for place in range(len(spans))], [span["name"] for span in spans])
        _, end = seconds(spans[0])
        axis.set(title="One request, milliseconds", xlim=(0, (end - began) * 1150))
    return file


def main() -> None:
    """Finds the request and draws it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    settings = Settings()
    file = settings.folder(settings.trace_file) if settings.trace_file else None
    if file is None or not file.exists():
        raise TraceError(f"TRACE_FILE is {file or 'not set'}: start the server with it, ask for lists, and draw then.")
    dataset = catalogue.DATASET.load().dataset
    print(f"wrote {draw(median_trace(file), charts_folder(settings) / 'trace.png', dataset)}")


if __name__ == "__main__":
    run_stage(main)
