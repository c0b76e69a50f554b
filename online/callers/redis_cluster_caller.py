"""Redis Cluster: as one Redis for each user, whose keys are all on one node; several users go one by one.

An event that was accepted outlives any one node: it has reached a replica of the node before it counts as accepted, and
while a replica becomes master the event waits. A list does not wait: it is read from the replica.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisClusterException,
    TryAgainError,
)
from redis.retry import Retry

from data_exchange_center.addresses import addresses
from data_exchange_center.serving_names import (
    REDIS_EVENT_LOG,
    REDIS_LOAD,
    REDIS_RECENT,
    REDIS_TERM,
    REDIS_UNPUSHED,
    REDIS_USER_LOAD,
)
from data_exchange_center.settings import Settings
from online.callers.redis_caller import RedisCaller, Value, changed_keys, write_change
from online.callers.redis_replicas import acknowledge, connect_to_read
from online.callers.redis_streams import append_events
from online.callers.redis_values import FAULTS, KEYS, check_load, fault_of, read_impressions, user_recall
from online.callers.types import Impression, LiveUser, NodeUnavailable, ServiceUnavailable, UserRecall

EVENT_SECONDS = 10.0  # that an event waits for a node to be replaced, which takes about four
RETRY_SECONDS = 0.2  # between two attempts
REPLICATION_SHARE = 0.8  # of a response's time: what a replica in step has to take an event
LOOK_SECONDS = 0.1  # between two looks at which node has what
SERVING_THREADS = 2  # of a process, that never wait with an event

MOVED = (MovedError, AskError, TryAgainError)
NODE_FAULTS = (redis.ConnectionError, redis.TimeoutError, ClusterDownError, RedisClusterException, *MOVED)

Change = Callable[[LiveUser], LiveUser]


def redis_cluster_client(settings: Settings, timeout: float) -> RedisCluster:
    """A client of the cluster, which looks at once which node has what.

    Args:
        settings: where the nodes are, and their password.
        timeout: in seconds, for connecting and for each response.

    Raises:
        redis.ConnectionError: no node responds, or they are no cluster.
    """
    try:
        return RedisCluster(
            startup_nodes=[ClusterNode(*node) for node in addresses(settings.redis_nodes)],
            password=settings.redis_password.get_secret_value() or None,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 1),  # once: the first attempt finds out that a key is elsewhere now
            dynamic_startup_nodes=False,  # the names of the settings are right for ever, addresses are not
        )
    except RedisClusterException as error:
        raise redis.ConnectionError(str(error)) from error


class RedisClusterCaller(RedisCaller):
    """As RedisCaller, on the nodes of a cluster."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        """Opens no connection yet; `timeout` is in seconds, for connecting and for each response of a node."""
        self._settings, self._timeout, self._log_length = settings, timeout, settings.event_log_length
        self._lock = threading.Lock()
        self._cluster: RedisCluster | None = None
        self._looked = 0.0
        self._readers: dict[str, redis.Redis] = {}  # of replicas, by address
        # Events that wait keep a thread each; the others serve what does not have to wait.
        self._waiting = threading.BoundedSemaphore(max(settings.web_threads - SERVING_THREADS, 1))

    @property
    def _client(self) -> RedisCluster:  # type: ignore[override]
        """The client of the whole cluster, which connects when it is first used."""
        with self._lock:
            if self._cluster is None:
                self._cluster = redis_cluster_client(self._settings, self._timeout)
            return self._cluster

    def _at(self, key: str, operation: Callable[[redis.Redis], Value]) -> Value:
        """The operation's result on the node that has the key; it is called again where the key has moved.

        Raises:
            NodeUnavailable: the node does not respond in time; others may.
            StoreFault: as RedisCaller does.
        """
        try:
            cluster = self._client
            try:
                return operation(cluster.get_redis_connection(cluster.get_node_from_key(key)))
            except MOVED:
                cluster.nodes_manager.initialize()
                return operation(cluster.get_redis_connection(cluster.get_node_from_key(key)))
        except NODE_FAULTS as error:
            self._look_again()
            raise NodeUnavailable("redis", error) from error
        except FAULTS as error:
            raise fault_of(error) from error

    def _look_again(self) -> None:
        """Asks the nodes which of them has what, unless that was done just now."""
        with self._lock:
            cluster, is_due = self._cluster, time.monotonic() - self._looked > LOOK_SECONDS
            self._looked = time.monotonic() if is_due else self._looked
        if cluster is not None and is_due:
            with contextlib.suppress(*NODE_FAULTS):  # those who need a node say so
                cluster.nodes_manager.initialize()

    def _read(self, key: str, operation: Callable[[redis.Redis], Value]) -> Value:
        """As `_at`, for what changes nothing: where the node does not respond, its replicas are asked.

        They may lack the last milliseconds.
        """
        try:
            return self._at(key, operation)
        except NodeUnavailable:
            with contextlib.suppress(*FAULTS, *NODE_FAULTS):
                cluster = self._client
                for node in cluster.nodes_manager.slots_cache[cluster.keyslot(key)][1:]:
                    with contextlib.suppress(*NODE_FAULTS):
                        return operation(self._reader(node))
            raise

    def _reader(self, node: ClusterNode) -> redis.Redis:
        """A client of a replica, which may be read from."""
        with self._lock:
            if node.name not in self._readers:
                self._readers[node.name] = redis.Redis(
                    host=node.host,
                    port=node.port,
                    password=self._settings.redis_password.get_secret_value() or None,
                    socket_timeout=self._timeout,
                    socket_connect_timeout=self._timeout,
                    retry=Retry(NoBackoff(), 0),
                    redis_connect_func=connect_to_read,  # type: ignore[arg-type]
                )
            return self._readers[node.name]

    def _users(self, userids: Sequence[int]) -> tuple[list[UserRecall | None], bytes | None]:
        """The users; of a single one also the load that they are of; of one who is not known, the others' load."""
        keys = [[*(key.format(userid) for key in KEYS), REDIS_USER_LOAD.format(userid)] for userid in userids]
        if len(keys) == 1:
            found: list[Any] = [self._read(keys[0][0], lambda client: client.mget(keys[0]))]
        else:
            found = self._of_many([("MGET", *of_user) for of_user in keys])
        users = [user_recall(userid, *values[:-1]) for userid, values in zip(userids, found, strict=True)]
        held = found[0][-1] if len(found) == 1 else None
        if len(found) == 1 and held is None:
            held = self._read(REDIS_LOAD, lambda client: client.get(REDIS_LOAD))
        return users, held

    def recent(self, userids: Sequence[int]) -> list[tuple[Impression, ...]]:
        """As RedisCaller's."""
        keys = [REDIS_RECENT.format(userid) for userid in userids]
        values: list[Any]
        try:
            if len(keys) == 1:
                values = [self._at(keys[0], lambda client: client.get(keys[0]))]
            else:
                values = self._of_many([("GET", key) for key in keys])
            return [read_impressions(value) if value is not None else () for value in values]
        except FAULTS as error:
            raise fault_of(error) from error

    def _of_many(self, commands: list[tuple[str, ...]]) -> list[Any]:
        """The results of commands of which each concerns one user, all nodes at once."""
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return pipe.execute()
        except RedisClusterException as error:
            raise ServiceUnavailable("redis", error) from error

    def update(self, changes: Mapping[int, Change], load: str | None = None) -> dict[int, int]:
        """As RedisCaller's, one transaction a user: a cluster has none over several nodes.

        Of several users all are looked at before the first is changed, so that a fault of one of them changes none.
        Where a node fails in between, some are changed: whoever sends all events again changes the others, too, since
        an event counts once.

        An event that was accepted has reached a replica, where the node has one in step, and outlives the node. It
        waits up to EVENT_SECONDS for a node to be replaced.

        Raises:
            ServiceUnavailable: a node was not replaced in time, or too many events wait already.
        """
        if len(changes) > 1:
            for userid, change in changes.items():
                self._patiently(partial(self._try_out, userid, change, load))
        return {userid: self._update_user(userid, change, load) for userid, change in changes.items()}

    def _try_out(self, userid: int, change: Change, load: str | None) -> None:
        def look(client: redis.Redis) -> None:
            self._check_load(client, userid, load)
            change(self._live_users(client, [userid])[userid])

        self._at(REDIS_TERM.format(userid), look)

    def _update_user(self, userid: int, change: Change, load: str | None) -> int:
        gained: list[Impression] = []
        logged = 0

        def attempt() -> None:
            nonlocal logged
            # Marked before, lest an event be forgotten, and after, since another one's vector may have come in between.
            self._at(REDIS_UNPUSHED, lambda client: client.sadd(REDIS_UNPUSHED, userid))
            gained.extend(self._at(REDIS_TERM.format(userid), partial(self._change, userid, change, load)))
            self._at(REDIS_TERM.format(userid), partial(acknowledge, userid, self._timeout * REPLICATION_SHARE))
            if gained:
                self._at(REDIS_UNPUSHED, lambda client: client.sadd(REDIS_UNPUSHED, userid))
            # After the transaction, since the log lies on another node; an attempt that failed before is made up for.
            self._at(REDIS_EVENT_LOG, partial(append_events, gained[logged:], self._log_length))
            logged = len(gained)

        self._patiently(attempt)
        return len(gained)

    def _change(self, userid: int, change: Change, load: str | None, client: redis.Redis) -> tuple[Impression, ...]:
        """The user's transaction; returns the new events."""

        def transaction(pipe: redis.client.Pipeline) -> tuple[Impression, ...]:
            # After `transaction` has begun to watch. A loader takes the load's mark away before it touches a user.
            self._check_load(client, userid, load)
            before = self._live_users(client, [userid])[userid]
            after = change(before)
            pipe.multi()
            gained = write_change(pipe, userid, before, after)
            if load is not None and after is not before:
                pipe.set(REDIS_USER_LOAD.format(userid), load)
            return gained

        watched = [REDIS_USER_LOAD.format(userid), *changed_keys(userid)]
        gained: tuple[Impression, ...] = client.transaction(transaction, *watched, value_from_callable=True)  # type: ignore[assignment, arg-type]
        return gained

    def _check_load(self, client: redis.Redis, userid: int, load: str | None) -> None:
        """Raises StoreFault unless the user is of the load; one who is not known has to be of the others'."""
        if load is not None:
            held: Any = client.get(REDIS_USER_LOAD.format(userid))
            check_load(self._at(REDIS_LOAD, lambda other: other.get(REDIS_LOAD)) if held is None else held, load)  # type: ignore[arg-type]

    def _patiently(self, attempt: Callable[[], None]) -> None:
        """Attempts again for EVENT_SECONDS while a node does not respond, if a thread can be spared for it."""
        try:
            return attempt()
        except NodeUnavailable:
            if not self._waiting.acquire(blocking=False):
                raise
        try:
            deadline = time.monotonic() + EVENT_SECONDS
            while True:
                time.sleep(RETRY_SECONDS)
                try:
                    return attempt()
                except NodeUnavailable:
                    if time.monotonic() > deadline:
                        raise
        finally:
            self._waiting.release()
