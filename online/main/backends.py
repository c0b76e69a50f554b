"""The real services behind the roles, with the time that a request has for each."""

from data_exchange_center.settings import Settings
from online.callers.es_caller import ElasticsearchCaller
from online.callers.es_similar_caller import SimilarItemsCaller
from online.callers.feast_caller import FeastCaller
from online.callers.impression_stream import ImpressionStream
from online.callers.promoted_versions import PromotedVersions
from online.callers.redis_stores import redis_caller
from online.callers.triton_caller import TritonCaller
from online.engine import Engine
from online.impression_log import ImpressionLog
from online.main import metrics
from online.roles import ServingBackends
from online.shadows import Shadows
from online.shown import Log
from online.tracing import NO_TRACER, Tracer

# Seconds: together they stay below the second in which a request must get its response.
REDIS_TIMEOUT = 0.1
ELASTICSEARCH_TIMEOUT = 0.3
FEAST_TIMEOUT = 0.3
TRITON_TIMEOUT = 0.2
LOG_TIMEOUT = 1.0  # no request waits for it


def connect(settings: Settings, tracer: Tracer = NO_TRACER) -> ServingBackends:
    """Callers of the four services; each connects when it is first used, and tells of the tracer's spans if it can."""
    triton = TritonCaller(settings, TRITON_TIMEOUT, tracer.headers)
    return ServingBackends(
        recall_store=redis_caller(settings, REDIS_TIMEOUT),
        recall_index=ElasticsearchCaller(settings, ELASTICSEARCH_TIMEOUT, tracer.headers),
        similar_index=SimilarItemsCaller(settings, ELASTICSEARCH_TIMEOUT),
        feature_store=FeastCaller(settings, FEAST_TIMEOUT, settings.web_threads, tracer.headers),
        ranking_model=triton,
        user_tower=triton,
        promoted_version=PromotedVersions(settings, REDIS_TIMEOUT),
    )


def log_of(settings: Settings) -> ImpressionLog | None:
    """The log of the lists that are shown, counted in /metrics; None where IMPRESSION_LOG turns it off."""
    if not settings.impression_log:
        return None
    return ImpressionLog(
        ImpressionStream(settings, LOG_TIMEOUT).append,
        lambda outcome, lists: metrics.IMPRESSIONS.labels(outcome).inc(lists),
    )


def with_shadows(log: Log | None, engine: Engine) -> Log | None:
    """The log, with shadows before it where an arm of the engine's experiments asks for some."""
    if log is None or "shadow_version" not in engine.experiments.changes:
        return log
    return Shadows(engine.recommender.shadow, log, lambda outcome: metrics.SHADOWS.labels(outcome).inc())
