"""How every chart of this project looks: its style, its note of the data set, and bars with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draws into files, since there may be no screen

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

OWN, OTHER, THIRD = "#2457a7", "#9aa5b1", "#d9822b"
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "font.size": 9,
    "savefig.dpi": 130,
}


@contextmanager
def chart(file: Path, dataset: str, width: float, height: float, panels: int = 1) -> Iterator[list[Axes]]:
    """A PNG with some panels side by side; the same report gives the same bytes.

    Args:
        file: where it is saved at the end of the block.
        dataset: the name that is written into the corner.
        width, height: in inches.
        panels: the number of axes that the block gets.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, panels, figsize=(width, height), squeeze=False)
        figure.set_layout_engine("constrained", rect=(0, 0.05, 1, 0.95))
        yield list(axes[0])
        figure.text(0.995, 0.005, f"data set: {dataset}", ha="right", va="bottom", fontsize=7, color="#555555")
        figure.savefig(file, metadata={"Software": None})
        plt.close(figure)


def interval_bars(
    axis: Axes, names: list[str], measured: Sequence[Mapping[str, Any]], own: set[str], form: str = "{:.3f}"
) -> None:
    """Horizontal bars with their intervals, the first on top.

    Args:
        axis: where they are drawn.
        names: one for each bar.
        measured: `value` and `interval` of each bar.
        own: the names that are drawn in the project's own colour.
        form: how a value is written beside its bar.
    """
    values = [m["value"] for m in measured]
    errors = [[m["value"] - m["interval"][0] for m in measured], [m["interval"][1] - m["value"] for m in measured]]
    places = range(len(names) - 1, -1, -1)
    colours = [OWN if name in own else OTHER for name in names]
    axis.barh(list(places), values, xerr=errors, color=colours, error_kw={"elinewidth": 1, "capsize": 2})
    axis.set_yticks(list(places), names)
    for place, m in zip(places, measured, strict=True):
        end = (m["interval"][1], place)
        axis.annotate(form.format(m["value"]), end, (4, 0), textcoords="offset points", va="center")
    axis.margins(x=0.18)
