"""What /metrics shows. Under gunicorn each worker writes files, and whichever worker is asked adds all of them up.

Import this after PROMETHEUS_MULTIPROC_DIR is set: prometheus_client decides at import where it counts.
"""

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from online.recommendation import Recommendation

SECONDS = (0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
STATES = {"closed": 0, "half-open": 1, "open": 2}

REQUESTS = Histogram("recsys_request_seconds", "Time of a request", ["path", "status"], buckets=SECONDS)
STAGES = Histogram("recsys_stage_seconds", "Time of a stage of /recommend", ["stage"], buckets=SECONDS)
CANDIDATES = Histogram("recsys_candidates", "Candidates of a recommendation", buckets=(0, 1, 10, 50, 100, 150, 200))
LISTS = Counter(
    "recsys_lists",
    "Recommendations by the ranking model's version, and whether degraded",
    ["model_version", "degraded"],
)
FALLBACKS = Counter("recsys_fallbacks", "Lists that are not the full flow's", ["reason"])
EVENTS = Counter("recsys_events", "Events by what became of them", ["outcome"])
IMPRESSIONS = Counter("recsys_impressions", "Lists that were shown, by what became of their log entries", ["outcome"])
SHADOWS = Counter("recsys_shadows", "Lists to be scored by another version, by what became of it", ["outcome"])
BREAKERS = Gauge("recsys_breaker", "0 closed, 1 half-open, 2 open", ["service"], multiprocess_mode="livemax")


def count(recommendation: Recommendation) -> None:
    """Counts one recommendation."""
    for name, seconds in recommendation.stages.items():
        STAGES.labels(name).observe(seconds)
    if len(recommendation.candidates):
        CANDIDATES.observe(len(recommendation.candidates))
    LISTS.labels(recommendation.model_version or "none", str(bool(recommendation.degraded)).lower()).inc()
    fallback = [recommendation.fallback] if recommendation.fallback else []
    for reason in fallback + recommendation.degraded:
        FALLBACKS.labels(reason).inc()


def exposition(breakers: dict[str, str]) -> bytes:
    """The text that Prometheus reads, of all workers together."""
    return generate_latest(all_workers(breakers))


def all_workers(breakers: dict[str, str]) -> CollectorRegistry:
    """What the metrics of all workers are collected from; `breakers` are this worker's, by service."""
    for service, state in breakers.items():
        BREAKERS.labels(service).set(STATES[state])
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return registry
