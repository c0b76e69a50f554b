"""Charts from the last reports and the stages' metrics, as PNG; each names its data set.

    python -m benchmarks.quality.charts              draws beside the reports, into charts/ under RUN_DIR
    python -m benchmarks.quality.charts --publish    draws into pic/, which git tracks and the readmes show

Published is nothing but the default generated data set, so that an evaluation of other data cannot replace the readmes'
charts.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from benchmarks.drawing import OTHER, OWN, THIRD, chart, interval_bars
from benchmarks.report import Report, charts_folder, read_report
from benchmarks.speed.latency_chart import latency
from data_exchange_center import catalogue
from data_exchange_center.documents import ModelMetrics, Trial, VectorRecallMetrics
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage

PUBLISHED = ROOT / "pic"


class ChartError(Exception):
    """The charts cannot be drawn, or must not be published; the message names the remedy."""

    is_expected = True


def learning_curves(vectors: VectorRecallMetrics, models: ModelMetrics, folder: Path) -> Path:
    """The metric on valid after each epoch of every fit of the hyper-parameter tunings."""

    def l2(trial: Trial) -> str:
        return f"L2 {trial.params['l2']:.3g}"

    def deepfm(trial: Trial) -> str:
        return f"{trial.params['deep_inputs']}, {trial.params['l2_of_fm']:.2g} × FM's L2"

    panels: tuple[tuple[str, list[Trial], Callable[[Trial], str]], ...] = (
        ("FM, rated rows: AUC", vectors.rated.tried, l2),
        ("FM, retrieval: Recall@50", vectors.retrieval.tried, l2),
        ("DeepFM: AUC", models.deepfm.tried, deepfm),
    )
    file = folder / "learning_curves.png"
    with chart(file, models.dataset, 10.5, 3.2, len(panels)) as axes:
        for axis, (title, tried, label) in zip(axes, panels, strict=True):
            best = max(tried, key=lambda trial: trial.valid)
            for trial in tried:
                chosen = trial is best
                axis.plot(
                    range(1, len(trial.curve) + 1),
                    trial.curve,
                    marker="o" if chosen else ".",
                    markersize=4,
                    linewidth=2 if chosen else 1,
                    label=label(trial) + (", pruned" if trial.pruned else "") + (" (chosen)" if chosen else ""),
                )
            axis.set(title=f"{title} on valid", xlabel="epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.legend(fontsize=7, frameon=False)
    return file


def auc_on_test(models: ModelMetrics, folder: Path) -> Path:
    """AUC of the four models on test with intervals."""
    names = ["popularity", "logistic regression on the ids", "FM", "DeepFM"]
    measured = [
        {"value": model.test_auc, "interval": model.test_auc_interval}
        for model in (models.popularity, models.logistic_regression, models.fm, models.deepfm)
    ]
    file = folder / "auc.png"
    with chart(file, models.dataset, 6, 2.2) as (axis,):
        interval_bars(axis, names, measured, {"DeepFM"}, "{:.4f}")
        axis.set(title="AUC on the rated rows of test, with 95 % intervals", xlim=(0.5, None))
    return file


def systems(report: Report, folder: Path) -> Path:
    """Recall and NDCG of all systems on the online rows; the first is the recommender."""
    names = list(report["systems"])
    file = folder / "evaluation.png"
    with chart(file, report["dataset"], 10.5, 3.2, 2) as axes:
        for axis, (metric, title) in zip(axes, (("recall@50", "Recall@50"), ("ndcg@50", "NDCG@50")), strict=True):
            interval_bars(axis, names, [report["systems"][name][metric] for name in names], {names[0]})
            axis.set_title(f"{title} on the online rows")
        axes[1].set_yticklabels([])
    return file


def funnel(report: Report, folder: Path) -> Path:
    """The share of the online positives that is left after each step."""
    steps, shares = list(report["funnel"]), list(report["funnel"].values())
    file = folder / "funnel.png"
    with chart(file, report["dataset"], 6, 2.4) as (axis,):
        places = range(len(steps) - 1, -1, -1)
        axis.barh(list(places), shares, color=OWN)
        axis.set_yticks(list(places), steps)
        for place, share in zip(places, shares, strict=True):
            axis.annotate(f"{share:.1%}", (share, place), (4, 0), textcoords="offset points", va="center")
        axis.set(title="What is left of the users' online positives", xlim=(0, 1.15))
    return file


def calibration(models: ModelMetrics, report: Report, folder: Path) -> Path:
    """Predicted probability against the observed share of positives."""
    online = report["calibration"]
    on_test = models.deepfm.reliability
    curves = (
        (f"test: error {on_test.error:.4f}", on_test.predicted, on_test.observed, OWN),
        (f"online rows, served model: error {online['error']:.4f}", online["predicted"], online["observed"], THIRD),
    )
    file = folder / "calibration.png"
    with chart(file, report["dataset"], 4.6, 3.6) as (axis,):
        axis.plot([0, 1], [0, 1], color=OTHER, linewidth=1, linestyle="--")
        for label, predicted, observed, colour in curves:
            axis.plot(predicted, observed, marker="o", markersize=4, color=colour, label=label)
        axis.set(title="Calibration of DeepFM", xlabel="predicted probability", ylabel="share above 3 stars")
        axis.legend(frameon=False, loc="upper left")
    return file


def draw_evaluation(report: Report, folder: Path) -> list[Path]:
    """All charts of the evaluation and of the training.

    Raises:
        ChartError: the artefacts are of another data set than the report.
    """
    vectors, models = catalogue.VECTOR_RECALL_METRICS.load(), catalogue.MODEL_METRICS.load()
    expected = report["dataset"], report["seed"]
    if {expected, (vectors.dataset, vectors.seed), (models.dataset, models.seed)} != {expected}:
        raise ChartError(f"the artefacts are not of the evaluation's data set {expected[0]}: run `make evaluate`.")
    return [
        learning_curves(vectors, models, folder),
        auc_on_test(models, folder),
        systems(report, folder),
        funnel(report, folder),
        calibration(models, report, folder),
    ]


def check_publishable(name: str, report: Report, settings: Settings) -> None:
    """Returns when a report is of the default generated data set.

    Raises:
        ChartError: it is of another one.
    """
    default = {field: Settings.model_fields[field].default for field in ("dataset", "seed")}
    measured = {field: report[field] for field in default}
    if measured != default or settings.data_dir is not None:
        raise ChartError(
            f"{name}.json is of data set {measured['dataset']}, seed {measured['seed']}"
            f"{f', from {settings.data_dir}' if settings.data_dir else ''}: only charts of data set "
            f"{default['dataset']}, seed {default['seed']}, are published in {PUBLISHED.name}/."
        )


def draw(settings: Settings, publish: bool) -> list[Path]:
    """Draws all charts of the last reports; `publish` draws into pic/ in place of RUN_DIR.

    Raises:
        ChartError: there is no report, or one of them must not be published.
    """
    found = {name: read_report(settings, name) for name in ("evaluate", "bench", "page")}
    reports = {name: report for name, report in found.items() if report is not None}
    if not reports:
        raise ChartError("there is no report yet: run `make evaluate` or `make bench`.")
    own_folder = charts_folder(settings)
    if publish:
        for name, report in reports.items():
            check_publishable(name, report, settings)
    folder = PUBLISHED if publish else own_folder
    drawn: list[Path] = []
    if "evaluate" in reports:
        drawn += draw_evaluation(reports["evaluate"], folder)
    if "bench" in reports:
        drawn.append(latency(reports["bench"], folder))
    if "page" in reports and publish:
        drawn.append(Path(shutil.copy(own_folder / "page.png", folder)))
    return drawn


def main() -> None:
    """Draws from the last reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true", help="into pic/, if they are of the default generated data")
    for file in draw(Settings(), parser.parse_args().publish):
        print(f"wrote {file}")


if __name__ == "__main__":
    run_stage(main)
