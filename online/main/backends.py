"""The real services behind the roles, with the time that a request has for each."""

from data_exchange_center.settings import Settings
from online.callers.es_caller import ElasticsearchCaller
from online.callers.feast_caller import FeastCaller
from online.callers.redis_stores import redis_caller
from online.callers.triton_caller import TritonCaller
from online.roles import ServingBackends
from online.tracing import NO_TRACER, Tracer

# Seconds: together they stay below the second in which a request must get its response.
REDIS_TIMEOUT = 0.1
ELASTICSEARCH_TIMEOUT = 0.3
FEAST_TIMEOUT = 0.3
TRITON_TIMEOUT = 0.2


def connect(settings: Settings, tracer: Tracer = NO_TRACER) -> ServingBackends:
    """Callers of the four services; each connects when it is first used, and tells of the tracer's spans if it can."""
    triton = TritonCaller(settings, TRITON_TIMEOUT, tracer.headers)
    return ServingBackends(
        recall_store=redis_caller(settings, REDIS_TIMEOUT),
        recall_index=ElasticsearchCaller(settings, ELASTICSEARCH_TIMEOUT, tracer.headers),
        feature_store=FeastCaller(settings, FEAST_TIMEOUT, settings.web_threads, tracer.headers),
        ranking_model=triton,
        user_tower=triton,
    )
