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
from benchmarks.quality.systems import BY_FM, BY_SEQUENCE, LAMBDAMART, ORACLE, POPULARITY, SERVED
from benchmarks.report import Report, charts_folder, read_report
from benchmarks.speed.latency_chart import latency
from data_exchange_center import catalogue
from data_exchange_center.documents import ModelMetrics, RankerMetrics, Trial, VectorRecallMetrics
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage

PUBLISHED = ROOT / "pic"
# What stands beside each bar of the stages' chart.
STAGES = {
    POPULARITY: "popularity",
    BY_FM: "FM recall",
    BY_SEQUENCE: "sequence recall",
    SERVED: "both recalls and the ranker (served)",
    LAMBDAMART: "the same candidates by LambdaMART",
    ORACLE: "oracle: the generator's own truth",
}


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


def auc_on_test(models: ModelMetrics, ranker: RankerMetrics, folder: Path) -> Path:
    """AUC of the models on test with intervals."""
    names = ["popularity", "logistic regression on the ids", "FM", "DeepFM", "DeepFM and sequence (served)"]
    measured = [
        {"value": model.test_auc, "interval": model.test_auc_interval}
        for model in (models.popularity, models.logistic_regression, models.fm, models.deepfm, ranker.like_head)
    ]
    file = folder / "auc.png"
    with chart(file, models.dataset, 6, 2.2) as (axis,):
        interval_bars(axis, names, measured, {names[-1]}, "{:.4f}")
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


def stages(report: Report, folder: Path) -> Path:
    """What each stage is worth: NDCG@10 from popularity to the ranker and its yardsticks; by events of new users."""
    shown = [name for name in STAGES if name in report["systems"]]
    by_events, file = report["new_users"]["by_events"], folder / "stages.png"
    measured = [report["systems"][name]["ndcg@10"] for name in shown]
    with chart(file, report["dataset"], 10.5, 2.9, 2) as (bars, curve):
        interval_bars(bars, [STAGES[name] for name in shown], measured, {STAGES[SERVED]})
        bars.set_title("NDCG@10 on the online rows, with 95 % intervals")
        metrics = [of_events["ndcg@10"] for of_events in by_events.values()]
        places = range(len(metrics))
        errors = [
            [m["value"] - m["interval"][0] for m in metrics],
            [m["interval"][1] - m["value"] for m in metrics],
        ]
        values = [m["value"] for m in metrics]
        curve.errorbar(places, values, yerr=errors, marker="o", color=OWN, capsize=2)
        curve.axhline(values[0], color=OTHER, linestyle="--", linewidth=1)
        curve.annotate("popularity", (len(metrics) - 1, values[0]), (0, 4), textcoords="offset points", ha="right")
        curve.set_xticks(list(places), list(by_events))
        curve.set(title="NDCG@10 of new users", xlabel="events that are known of the user", ylim=(0, None))
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


def calibration(ranker: RankerMetrics, report: Report, folder: Path) -> Path:
    """Predicted probability against the observed share of positives."""
    online = report["calibration"]
    on_test = ranker.like_head.reliability
    curves = (
        (f"test: error {on_test.error:.4f}", on_test.predicted, on_test.observed, OWN),
        (f"online rows, served model: error {online['error']:.4f}", online["predicted"], online["observed"], THIRD),
    )
    file = folder / "calibration.png"
    with chart(file, report["dataset"], 4.6, 3.6) as (axis,):
        axis.plot([0, 1], [0, 1], color=OTHER, linewidth=1, linestyle="--")
        for label, predicted, observed, colour in curves:
            axis.plot(predicted, observed, marker="o", markersize=4, color=colour, label=label)
        axis.set(title="Calibration of the served logit", xlabel="predicted probability", ylabel="share above 3 stars")
        axis.legend(frameon=False, loc="upper left")
    return file


def draw_evaluation(report: Report, folder: Path) -> list[Path]:
    """All charts of the evaluation and of the training.

    Raises:
        ChartError: the artefacts are of another data set than the report.
    """
    vectors, models = catalogue.VECTOR_RECALL_METRICS.load(), catalogue.MODEL_METRICS.load()
    ranker, expected = catalogue.RANKER_METRICS.load(), (report["dataset"], report["seed"])
    if {(metrics.dataset, metrics.seed) for metrics in (vectors, models, ranker)} != {expected}:
        raise ChartError(f"the artefacts are not of the evaluation's data set {expected[0]}: run `make evaluate`.")
    return [
        learning_curves(vectors, models, folder),
        auc_on_test(models, ranker, folder),
        stages(report, folder),
        systems(report, folder),
        funnel(report, folder),
        calibration(ranker, report, folder),
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
