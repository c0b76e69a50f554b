"""Feast's Redis online store for a Redis Cluster whose nodes may die.

Feast's own goes on for ever with what it knew of the cluster when it started: its asynchronous client keeps each node's
first role (redis-py 7.4), so that it finds no master any more once all have been replaced, and waits a quarter of a
second before each retry. This one is Feast's own with the synchronous client, which looks again which node has what,
and reads from a replica where the node that has the key does not respond.

Feast imports this file by the name in feature_store_cluster.yaml, in the loader's process and in the container alike.
It needs Feast and redis-py only.
"""

from typing import Any

from feast import RepoConfig
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig, RedisType
from feast.infra.supported_async_methods import SupportedAsyncMethods
from redis import ConnectionError as NoConnection
from redis import TimeoutError as NoResponse
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from redis.exceptions import ClusterDownError
from redis.retry import Retry

CONNECT_SECONDS = 0.2
RESPONSE_SECONDS = 10.0  # to a loader's block of a thousand entities, too


class ClusterOnlineStoreConfig(RedisOnlineStoreConfig):
    """As Feast's own, with the addresses of several nodes in `connection_string`."""

    type: Any = "data_exchange_center.online.feast.cluster_store.ClusterOnlineStore"
    redis_type: RedisType = RedisType.redis_cluster


class ClusterOnlineStore(RedisOnlineStore):
    """As Feast's own; what is read may lack the last milliseconds while a node is away."""

    _replicas: RedisCluster | None = None

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Not: Feast then reads and writes in threads."""
        return SupportedAsyncMethods(read=False, write=False)

    def _get_client(self, online_store_config: RedisOnlineStoreConfig) -> RedisCluster:
        if not self._client:
            self._client = self._connect(online_store_config, None)
        return self._client

    def _connect(self, config: RedisOnlineStoreConfig, strategy: LoadBalancingStrategy | None) -> RedisCluster:
        nodes, parameters = self._parse_connection_string(config.connection_string)
        return RedisCluster(
            startup_nodes=[ClusterNode(**node) for node in nodes],
            retry=Retry(NoBackoff(), 1),
            dynamic_startup_nodes=False,
            load_balancing_strategy=strategy,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=RESPONSE_SECONDS,
            **parameters,
        )

    def _read_hash_fields(self, config: RepoConfig, commands: list[Any]) -> list[Any]:
        try:
            return super()._read_hash_fields(config, commands)
        except (NoConnection, NoResponse, ClusterDownError):
            if not self._replicas:
                self._replicas = self._connect(config.online_store, LoadBalancingStrategy.RANDOM_REPLICA)
            with self._replicas.pipeline(transaction=False) as pipe:
                for key, fields in commands:
                    pipe.hmget(key, fields)
                return pipe.execute()
