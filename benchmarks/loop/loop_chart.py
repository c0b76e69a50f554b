"""The chart of the simulation: what the loop gains from round to round, and how much of the catalogue it shows."""

from pathlib import Path
from typing import Any

from benchmarks.drawing import OTHER, OWN, THIRD, chart

METRIC = "expected recall@50"
COLOURS = {"recommender": OWN, "never retrained": "#7ba3dd", "oracle": OTHER, "popularity alone": THIRD}


def draw_loop(report: dict[str, Any], file: Path) -> Path:
    """Draws the report of benchmarks/loop/simulate.py; returns the file."""
    rounds = report["rounds"]
    numbers = [one["round"] for one in rounds]
    with chart(file, report["dataset"], 9.0, 3.6, panels=2) as (recall, coverage):
        for name, colour in COLOURS.items():
            measured = [one["systems"][name][METRIC] for one in rounds]
            values = [m["value"] for m in measured]
            below = [m["value"] - m["interval"][0] for m in measured]
            above = [m["interval"][1] - m["value"] for m in measured]
            recall.errorbar(numbers, values, yerr=[below, above], color=colour, marker="o", capsize=2, label=name)
            coverage.plot(numbers, [one["coverage"][name] for one in rounds], color=colour, marker="o", label=name)
        recall.set_title("Recall@50 of what users like next by themselves")
        coverage.set_title("Share of the catalogue in some list")
        for axis in (recall, coverage):
            axis.set_xlabel("retrainings before")
            axis.set_xticks(numbers)
            axis.set_ylim(bottom=0)
        recall.legend(frameon=False)
    return file
