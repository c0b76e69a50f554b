"""Redis as TOPOLOGY has it: one server, or the nodes of a cluster."""

import redis

from data_exchange_center.settings import Settings
from online.callers import redis_caller as single
from online.callers.redis_caller import RedisCaller
from online.callers.redis_cluster_caller import RedisClusterCaller, redis_cluster_client


def redis_caller(settings: Settings, timeout: float) -> RedisCaller:
    """Reads and changes users; opens no connection yet.

    Args:
        settings: where Redis is.
        timeout: in seconds, for connecting and for each response.
    """
    return (RedisClusterCaller if settings.is_cluster else RedisCaller)(settings, timeout)


def redis_client(settings: Settings, timeout: float) -> redis.Redis:
    """A client for what concerns all keys, as a loader's work does.

    Args:
        settings, timeout: as for `redis_caller`.

    Raises:
        redis.ConnectionError: no node of a cluster responds; one server is asked when the client is first used.
    """
    # Of one class for the types alone: both have the commands that are used here.
    return redis_cluster_client(settings, timeout) if settings.is_cluster else single.redis_client(settings, timeout)  # type: ignore[return-value]
