"""Charts from the reports and the stages' metrics, as PNG under `pic/`; each names its data set.

python -m benchmarks.charts          (draws anew from the last reports)
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draws into files; there may be no screen

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from data_exchange_center import catalogue
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage

PICTURES = ROOT / "pic"
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

Report = Mapping[str, Any]


@contextmanager
def picture(name: str, dataset: str, width: float, height: float, panels: int = 1) -> Iterator[list[Axes]]:
    """A figure with some panels side by side, saved under its name; the same report gives the same bytes."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, panels, figsize=(width, height), squeeze=False)
        figure.set_layout_engine("constrained", rect=(0, 0.05, 1, 0.95))
        yield list(axes[0])
        figure.text(0.995, 0.005, f"data set: {dataset}", ha="right", va="bottom", fontsize=7, color="#555555")
        figure.savefig(PICTURES / name, metadata={"Software": None})
        plt.close(figure)


def bars(
    axis: Axes, names: list[str], figures: Sequence[Mapping[str, Any]], own: set[str], form: str = "{:.3f}"
) -> None:
    """Horizontal bars with intervals, the first on top."""
    values = [f["value"] for f in figures]
    errors = [[f["value"] - f["interval"][0] for f in figures], [f["interval"][1] - f["value"] for f in figures]]
    places = range(len(names) - 1, -1, -1)
    colours = [OWN if name in own else OTHER for name in names]
    axis.barh(list(places), values, xerr=errors, color=colours, error_kw={"elinewidth": 1, "capsize": 2})
    axis.set_yticks(list(places), names)
    for place, f in zip(places, figures, strict=True):
        axis.annotate(
            form.format(f["value"]), (f["interval"][1], place), (4, 0), textcoords="offset points", va="center"
        )
    axis.margins(x=0.18)


def learning_curves(vectors: Report, models: Report) -> Path:
    """The figure on valid after each epoch of every fit that the searches tried."""
    panels = (
        ("FM, rated rows: AUC", vectors["rated"]["tried"], lambda t: f"L2 {t['l2']:.3g}"),
        ("FM, retrieval: Recall@50", vectors["retrieval"]["tried"], lambda t: f"L2 {t['l2']:.3g}"),
        (
            "DeepFM: AUC",
            models["deepfm"]["tried"],
            lambda t: f"{t['deep_inputs']}, {t['l2_of_fm']:.2g} × FM's L2" + (", given up" if t["given_up"] else ""),
        ),
    )
    with picture("learning_curves.png", models["dataset"], 10.5, 3.2, len(panels)) as axes:
        for axis, (title, tried, label) in zip(axes, panels, strict=True):
            best = max(tried, key=lambda t: t["valid"])
            for trial in tried:
                chosen = trial is best
                axis.plot(
                    range(1, len(trial["curve"]) + 1),
                    trial["curve"],
                    marker="o" if chosen else ".",
                    markersize=4,
                    linewidth=2 if chosen else 1,
                    label=label(trial) + (" (chosen)" if chosen else ""),
                )
            axis.set(title=f"{title} on valid", xlabel="epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.legend(fontsize=7, frameon=False)
    return PICTURES / "learning_curves.png"


def auc_on_test(models: Report) -> Path:
    """AUC of the four models on test with intervals."""
    names = ["popularity", "logistic_regression", "fm", "deepfm"]
    figures = [{"value": models[n]["test_auc"], "interval": models[n]["test_auc_interval"]} for n in names]
    with picture("auc.png", models["dataset"], 6, 2.2) as (axis,):
        bars(axis, ["popularity", "logistic regression on the ids", "FM", "DeepFM"], figures, {"DeepFM"}, "{:.4f}")
        axis.set(title="AUC on the rated rows of test, with 95 % intervals", xlim=(0.5, None))
    return PICTURES / "auc.png"


def systems(report: Report) -> Path:
    """Recall and NDCG of all systems on the online rows."""
    names = list(report["systems"])
    with picture("evaluation.png", report["dataset"], 10.5, 3.2, 2) as axes:
        for axis, metric in zip(axes, ("recall@50", "ndcg@50"), strict=True):
            bars(axis, names, [report["systems"][n][metric] for n in names], {names[0]})
            axis.set_title(f"{metric.replace('recall', 'Recall').replace('ndcg', 'NDCG')} on the online rows")
        axes[1].set_yticklabels([])
    return PICTURES / "evaluation.png"


def funnel(report: Report) -> Path:
    """How many of the online positives are left after each step."""
    steps, shares = list(report["funnel"]), list(report["funnel"].values())
    with picture("funnel.png", report["dataset"], 6, 2.4) as (axis,):
        places = range(len(steps) - 1, -1, -1)
        axis.barh(list(places), shares, color=OWN)
        axis.set_yticks(list(places), steps)
        for place, share in zip(places, shares, strict=True):
            axis.annotate(f"{share:.1%}", (share, place), (4, 0), textcoords="offset points", va="center")
        axis.set(title="What is left of the users' online positives", xlim=(0, 1.15))
    return PICTURES / "funnel.png"


def calibration(models: Report, report: Report) -> Path:
    """Predicted against observed share of positives."""
    of = (
        ("test", models["deepfm"]["reliability"], OWN),
        ("online rows, served model", report["calibration"], THIRD),
    )
    with picture("calibration.png", report["dataset"], 4.6, 3.6) as (axis,):
        axis.plot([0, 1], [0, 1], color=OTHER, linewidth=1, linestyle="--")
        for name, found, colour in of:
            label = f"{name}: error {found['error']:.4f}"
            axis.plot(found["predicted"], found["observed"], marker="o", markersize=4, color=colour, label=label)
        axis.set(title="Calibration of DeepFM", xlabel="predicted probability", ylabel="share above 3 stars")
        axis.legend(frameon=False, loc="upper left")
    return PICTURES / "calibration.png"


def latency(report: Report) -> Path:
    """Median time of each stage of a request by the number of clients, and throughput."""
    loads = report["requests"]["clients"]
    names = list(loads)
    stages = list(loads[names[0]]["stage_p50_ms"])
    with picture("latency.png", report["dataset"], 10.5, 3.0, 2) as (left, right):
        places = range(len(names) - 1, -1, -1)
        start = [0.0] * len(names)
        for stage, colour in zip(stages, ("#d64545", "#f0b429", "#3ebd93", OWN), strict=False):
            widths = [loads[name]["stage_p50_ms"][stage] for name in names]
            left.barh(list(places), widths, left=start, label=stage, color=colour)
            start = [a + b for a, b in zip(start, widths, strict=True)]
        rest = [max(loads[name]["p50_ms"] - begun, 0.0) for name, begun in zip(names, start, strict=True)]
        left.barh(list(places), rest, left=start, label="web server and waiting", color="#cbd2d9")
        left.set_yticks(list(places), [f"{name} client{'s' * (name != '1')}" for name in names])
        left.set(title="A request's median time by stage, milliseconds", xscale="linear")
        left.legend(fontsize=7, frameon=False)
        right.plot([int(n) for n in names], [loads[n]["requests_per_second"] for n in names], marker="o", color=OWN)
        right.set(title="Requests a second by clients", xlabel="clients", ylim=(0, None))
        right.set_xscale("log", base=2)
        right.set_xticks([int(n) for n in names], names)
    return PICTURES / "latency.png"


def draw_evaluation(report: Report) -> list[Path]:
    """All charts of the evaluation and of the training."""
    vectors = catalogue.load_json(catalogue.VECTOR_RECALL_METRICS)
    models = catalogue.load_json(catalogue.MODEL_METRICS)
    return [
        learning_curves(vectors, models),
        auc_on_test(models),
        systems(report),
        funnel(report),
        calibration(models, report),
    ]


def main() -> None:
    """From the last reports."""
    folder = Settings().folder(Settings().run_dir)
    drawn: list[Path] = []
    for name, draw in (("evaluate", draw_evaluation), ("bench", lambda report: [latency(report)])):
        file = folder / f"{name}.json"
        if file.exists():
            drawn += draw(json.loads(file.read_text("utf-8")))
    if not drawn:
        print("error: there is no report yet: run `make evaluate` or `make bench`.", file=sys.stderr)
        sys.exit(1)
    for file in drawn:
        print(f"wrote {file}")


if __name__ == "__main__":
    run_stage(main)
