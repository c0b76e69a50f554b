"""The chart of the simulation: what the loop gains from round to round, and how much of the catalogue it shows."""

from pathlib import Path
from typing import Any

from benchmarks.drawing import OTHER, OWN, THIRD, chart
from benchmarks.loop.evaluation import ACTING, EXPECTED, PANEL, SYSTEMS

COLOURS = dict(zip(SYSTEMS, (OWN, "#7ba3dd", OTHER, THIRD), strict=True))
TITLES = {PANEL: "Recall@50, the panel: same users, same state", ACTING: "Recall@50, those who act: they use it up"}


def draw_loop(report: dict[str, Any], file: Path) -> Path:
    """Draws the report of benchmarks/loop/simulate.py; returns the file."""
    rounds = report["rounds"]
    numbers = [one["round"] for one in rounds]
    with chart(file, report["dataset"], 12.0, 3.6, panels=3) as (*recalls, coverage):
        for name, colour in COLOURS.items():
            for axis, group in zip(recalls, TITLES, strict=True):
                measured = [one["groups"][group]["systems"][name][EXPECTED] for one in rounds]
                values = [m["value"] for m in measured]
                below = [m["value"] - m["interval"][0] for m in measured]
                above = [m["interval"][1] - m["value"] for m in measured]
                axis.errorbar(numbers, values, yerr=[below, above], color=colour, marker="o", capsize=2, label=name)
                axis.set_title(TITLES[group])
            coverage.plot(numbers, [one["coverage"][name] for one in rounds], color=colour, marker="o", label=name)
        coverage.set_title("Share of the catalogue in some list")
        for axis in (*recalls, coverage):
            axis.set_xlabel("retrainings before")
            axis.set_xticks(numbers)
            axis.set_ylim(bottom=0)
        recalls[0].legend(frameon=False)
    return file
