"""Whether what is served has drifted from what was trained: features, scores and candidates.

    python -m benchmarks.quality.drift                      (or: make drift, while `make run` is up)
    python -m benchmarks.quality.drift --false-alarms 200   how often equals alarm, on the artefacts alone

The reference: the server's own recommender on the artefacts of the training, with PyTorch and arrays, for a sample of
users. Beside it the same recommender on the live stores and Triton, for other users: features as Feast gives them,
candidates as Elasticsearch finds them, scores as Triton makes them. Prints the columns that have moved farthest, writes
drift.json under RUN_DIR, which the page of operations shows, and ends with status 1 on an alarm.
"""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import torch

from benchmarks.quality.artefact_backends import ArtefactBackends
from benchmarks.quality.drift_samples import DriftError, sample_of, whole_lists
from benchmarks.quality.drift_statistics import FALSE_ALARMS, LEAST_SHIFT, Sample, compare, false_alarm_rate
from benchmarks.report import run_folder, table
from data_exchange_center import catalogue
from data_exchange_center.drift_report import DRIFT_REPORT, DriftReport
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from online.main.backends import connect
from online.roles import ServingBackends
from online.serving_data import ServingData

MOST_LIVE = 1000  # live lists
TIMES_REFERENCE = 2  # as many of the reference, at most
SHOWN = 12  # columns of the table, alarms aside


class DriftAlarm(Exception):
    """What is served has drifted; the message names the columns and what to look at."""

    is_expected = True


def drawn_users(seed: int, live: int) -> tuple[list[int], list[int]]:
    """Users of the load for the reference, and others for the live lists; of few users, half each.

    Raises:
        DriftError: there are not two.
    """
    users = np.array(ServingData.load().users)
    if len(users) < 2:
        raise DriftError(f"the load has {len(users)} users, and two samples need two at least: use more data.")
    order = np.random.default_rng(seed).permutation(users)
    live = min(live, len(users) // 2)
    return order[live : (1 + TIMES_REFERENCE) * live].tolist(), order[:live].tolist()


def reference_sample(users: Sequence[int]) -> Sample:
    """What the artefacts of the training make of these users' lists."""
    torch.set_num_threads(1)  # it scores one list at a time: a second thread costs more than it gains
    return sample_of(whole_lists(users, ArtefactBackends.load(), "reference"))


def measure(live_backends: ServingBackends, live: int = MOST_LIVE) -> DriftReport:
    """Compares so many live lists with the reference.

    Raises:
        DriftError: lists stay degraded, so that there is nothing whole to compare.
    """
    dataset = catalogue.DATASET.load()
    of_reference, of_live = drawn_users(dataset.seed, live)
    live_lists = whole_lists(of_live, live_backends, "live")
    reference, sample = reference_sample(of_reference), sample_of(live_lists)
    return DriftReport(
        dataset=dataset.dataset,
        seed=dataset.seed,
        measured_at=datetime.now(UTC),
        load_digest=live_lists[0].snapshot.data.load_digest,
        reference_lists=reference.size,
        live_lists=sample.size,
        columns=compare(reference, sample, dataset.seed),
    )


def shown(report: DriftReport) -> str:
    """The table of the columns that moved farthest: all alarms, and the next few."""
    names = [name for number, name in enumerate(report.columns) if number < SHOWN or name in report.alarms]
    rows: list[list[object]] = []
    for name in names:
        column = report.columns[name]
        numbers = (column.psi, column.threshold, column.reference_mean, column.live_mean)
        rows.append([name, *(f"{number:.3f}" for number in numbers), "ALARM" if column.is_alarm else ""])
    return table(rows, ["column", "PSI", "threshold", "mean of the reference", "live mean", ""])


def check(report: DriftReport) -> None:
    """Raises DriftAlarm where a column has moved."""
    if alarms := report.alarms:
        raise DriftAlarm(
            f"{len(alarms)} of {len(report.columns)} columns have drifted, first {next(iter(alarms))}: `make check` "
            "says whether the stores hold what was loaded; where they do, the users have changed: train again."
        )


def main() -> None:
    """Measures, writes the report, prints the table; or measures how often equals alarm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", type=int, default=MOST_LIVE, help=f"live lists; {MOST_LIVE} unless given")
    parser.add_argument("--false-alarms", type=int, metavar="TIMES", help="comparisons of equals; no server is asked")
    arguments, settings = parser.parse_args(), Settings()
    if arguments.false_alarms:
        dataset = catalogue.DATASET.load()
        of_reference, of_live = drawn_users(dataset.seed, arguments.lists)
        sample = reference_sample(of_reference + of_live)
        rate = false_alarm_rate(sample, len(of_live) / sample.size, arguments.false_alarms, dataset.seed)
        print(f"data set {dataset.dataset}: {rate:.1%} of {arguments.false_alarms} comparisons of equals alarm")
        return
    report = measure(connect(settings), arguments.lists)
    (run_folder(settings) / DRIFT_REPORT).write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
    print(f"data set {report.dataset}: {report.live_lists:,} live lists beside {report.reference_lists:,} of training")
    print(shown(report))
    print(f"An alarm is a PSI above {LEAST_SHIFT} that {1 - FALSE_ALARMS:.0%} of comparisons of equals do not reach.")
    check(report)


if __name__ == "__main__":
    run_stage(main)
