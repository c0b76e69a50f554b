"""What /operations.json shows: counts since the start of the server, versions, the last drift report, the last runs.

Counts only grow: whoever wants rates asks twice and takes the difference, as the page does. Percentiles follow from the
histograms' buckets, over the same two moments.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample
from pydantic import BaseModel, Field, ValidationError

from data_exchange_center.drift_report import DRIFT_REPORT, ColumnDrift, DriftReport
from data_exchange_center.settings import Settings
from online.experiments import INTERLEAVED, NO_EXPERIMENTS, Experiment, Experiments
from online.main.metrics import STATES
from online.serving_data import ServingData

MOST_COLUMNS = 8  # of the drift report
STAGE_RECORDS = ".stages"  # beside the artefacts; offline/__main__.py writes one after each run of a stage


class Times(BaseModel):
    """A histogram of seconds."""

    count: int
    seconds: Annotated[float, Field(description="all together")]
    buckets: Annotated[list[tuple[float | None, int]], Field(description="at most so many seconds, and how many")]


class Requests(Times):
    """The requests of one path."""

    errors: Annotated[int, Field(description="with a status of 500 and above")]


class Lists(BaseModel):
    """The recommendations."""

    count: int
    degraded: int
    by_model_version: dict[str, int]
    fallbacks: Annotated[dict[str, int], Field(description="lists that are not the full flow's, by reason")]


class Versions(BaseModel):
    """What is served."""

    dataset: str
    load: Annotated[str, Field(description="digest of the load that all stores must hold")]
    features: Annotated[str, Field(description="hash of the ranking model's features")]
    experiments: Annotated[list[str], Field(description="`experiment: arm, arm` of each that runs")]


class Drift(BaseModel):
    """The last report of `make drift`."""

    measured_at: datetime
    is_present: Annotated[bool, Field(description="whether it is of the load that is served")]
    columns: int
    alarms: list[str]
    farthest: Annotated[dict[str, ColumnDrift], Field(description="the columns farthest beyond their thresholds")]


class OperationsResponse(BaseModel):
    """How the server fares: counts of all workers since its start, versions, drift and runs."""

    time: Annotated[float, Field(description="seconds since 1970 at which the counts were taken")]
    requests: Annotated[dict[str, Requests], Field(description="by path")]
    stages: Annotated[dict[str, Times], Field(description="what /recommend waited for, by service")]
    lists: Lists
    events: dict[str, int]
    breakers: dict[str, str]
    versions: Versions
    drift: Drift | None
    runs: Annotated[dict[str, datetime], Field(description="when each stage was last run, by its name")]


def operations_response(
    registry: CollectorRegistry, data: ServingData, settings: Settings, experiments: Experiments = NO_EXPERIMENTS
) -> OperationsResponse:
    """The response.

    Args:
        registry: collects the metrics of all workers.
        data: what is served.
        experiments: that run.
        settings: where the reports and records are.
    """
    samples = defaultdict[str, list[Sample]](list)
    for family in registry.collect():
        for sample in family.samples:
            samples[sample.name].append(sample)
    requests = _times(samples, "recsys_request_seconds", "path")
    errors = _by(
        (sample for sample in samples["recsys_request_seconds_count"] if sample.labels["status"] >= "500"), "path"
    )
    lists = samples["recsys_lists_total"]
    states = {number: name for name, number in STATES.items()}
    return OperationsResponse(
        time=time.time(),
        requests={path: Requests(**times.model_dump(), errors=errors.get(path, 0)) for path, times in requests.items()},
        stages=_times(samples, "recsys_stage_seconds", "stage"),
        lists=Lists(
            count=sum(_by(lists, "degraded").values()),
            degraded=_by(lists, "degraded").get("true", 0),
            by_model_version=_by(lists, "model_version"),
            fallbacks=_by(samples["recsys_fallbacks_total"], "reason"),
        ),
        events=_by(samples["recsys_events_total"], "outcome"),
        breakers={sample.labels["service"]: states[int(sample.value)] for sample in samples["recsys_breaker"]},
        versions=Versions(
            dataset=data.dataset,
            load=data.load_digest,
            features=data.feature_hash,
            experiments=list(map(_told, experiments.experiments)),
        ),
        drift=_drift(settings.folder(settings.run_dir) / DRIFT_REPORT, data.load_digest),
        runs=_runs(settings.artefacts / STAGE_RECORDS),
    )


def _told(experiment: Experiment) -> str:
    """An experiment in a line."""
    return f"{experiment.name}: {', '.join(arm.name for arm in experiment.arms)}" + (
        f" ({INTERLEAVED})" if experiment.interleaved else ""
    )


def _by(samples: Iterable[Sample], label: str) -> dict[str, int]:
    """The sums of samples by one of their labels."""
    sums = defaultdict[str, int](int)
    for sample in samples:
        sums[sample.labels[label]] += int(sample.value)
    return dict(sums)


def _times(samples: dict[str, list[Sample]], name: str, label: str) -> dict[str, Times]:
    """The histograms of a metric by one of its labels."""
    buckets = defaultdict[str, dict[float, int]](lambda: defaultdict(int))
    for sample in samples[f"{name}_bucket"]:
        buckets[sample.labels[label]][float(sample.labels["le"])] += int(sample.value)
    seconds = defaultdict[str, float](float)
    for sample in samples[f"{name}_sum"]:
        seconds[sample.labels[label]] += sample.value
    counts = _by(samples[f"{name}_count"], label)
    return {
        key: Times(
            count=counts.get(key, 0),
            seconds=seconds[key],
            # JSON has no infinity: the last bucket's bound is null.
            buckets=[(None if most == float("inf") else most, of_bucket[most]) for most in sorted(of_bucket)],
        )
        for key, of_bucket in sorted(buckets.items())
    }


def _drift(file: Path, load_digest: str) -> Drift | None:
    """The last report, if there is one that can be read."""
    try:
        report = DriftReport.model_validate_json(file.read_text("utf-8"))
    except (FileNotFoundError, ValidationError):  # none yet, or one of another version of this project
        return None
    return Drift(
        measured_at=report.measured_at,
        is_present=report.load_digest == load_digest,
        columns=len(report.columns),
        alarms=list(report.alarms),
        farthest=dict(list(report.columns.items())[:MOST_COLUMNS]),
    )


def _runs(folder: Path) -> dict[str, datetime]:
    """When each stage was last run, the latest first."""
    times = {file.stem: file.stat().st_mtime for file in folder.glob("*.json")}
    latest = sorted(times.items(), key=lambda item: -item[1])
    return {name: datetime.fromtimestamp(moment, UTC) for name, moment in latest}
