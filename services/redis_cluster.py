"""Redis Cluster: its nodes are told of each other once, and share the slots; the first half are masters at first."""

import contextlib
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from data_exchange_center.addresses import Address, addresses
from data_exchange_center.settings import Settings
from services.processes import ServiceError
from services.redis_server import TIMEOUT

SLOTS = 16_384
# A master that does not respond for two seconds is replaced by its replica, about two seconds later. Keys of masters
# that live are served meanwhile.
OPTIONS = (
    *("--cluster-enabled", "yes"),
    *("--cluster-config-file", "nodes.conf"),
    *("--cluster-node-timeout", "2000"),
    *("--cluster-require-full-coverage", "no"),
    *("--repl-diskless-sync-delay", "0"),
)
JOIN_SECONDS = 60.0
POLL_SECONDS = 0.1
TAKEOVER_SECONDS = 15.0


def client_of(settings: Settings, address: Address) -> redis.Redis:
    """A client of one node."""
    return redis.Redis(
        address.host,
        address.port,
        password=settings.redis_password.get_secret_value() or None,
        socket_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),  # by default a node that is away is tried for seconds
        decode_responses=True,
    )


def is_ready(settings: Settings, address: Address) -> bool:
    """Whether a node is part of the cluster: a master that has slots, or a replica in step with its master."""
    try:
        with client_of(settings, address) as client:
            state = _state(client)
            role = client.info("replication")
    except redis.RedisError:
        return False
    is_in_step = role["role"] == "master" or role["master_link_status"] == "up"
    return state["cluster_state"] == "ok" and state["cluster_slots_ok"] == str(SLOTS) and is_in_step


def join(settings: Settings) -> None:
    """Makes a cluster of the nodes, or lets those that do not know it yet into it; does nothing where it is whole.

    Raises:
        ServiceError: they do not agree within JOIN_SECONDS.
    """
    where = addresses(settings.redis_nodes)
    clients = {address: client_of(settings, address) for address in where}
    with contextlib.ExitStack() as closing:
        for client in clients.values():
            closing.enter_context(client)
        _until(lambda: all(map(_responds, clients.values())), "not all of them respond")
        first = next((client for client in clients.values() if _has_slots(client)), clients[where[0]])
        known = _nodes(first)
        for address in where:
            if str(address) not in known and clients[address] is not first:
                first.execute_command("CLUSTER MEET", address.host, address.port)
        _until(lambda: all(_knows(client, where) for client in clients.values()), "they do not all know each other")
        _share_out(clients, where)


def _share_out(clients: dict[Address, redis.Redis], where: tuple[Address, ...]) -> None:
    """Gives the slots to the first half, where nobody has any; makes a replica of each node that is without."""
    masters = max(len(where) // 2, 1)
    if not any(_has_slots(client) for client in clients.values()):
        bounds = [SLOTS * place // masters for place in range(masters + 1)]
        for address, start, end in zip(where, bounds[:-1], bounds[1:], strict=False):
            clients[address].execute_command("CLUSTER ADDSLOTS", *range(start, end))
    _until(
        lambda: all(_slots_known(client) == SLOTS for client in clients.values()), "they do not agree on their slots"
    )
    for client in clients.values():
        own = _myself(client)
        if own["master_id"] == "-" and not own["slots"]:
            master = min(
                (node["node_id"] for node in _nodes(client).values() if node["slots"]), key=_replicas_in(client)
            )
            client.execute_command("CLUSTER REPLICATE", master)
            _until(partial(_all_see, clients.values(), client), "not all know a replica")


def _replicas_in(client: redis.Redis) -> Callable[[str], int]:
    """How many replicas a master has, as this node sees it."""
    masters = [node["master_id"] for node in _nodes(client).values()]
    return masters.count


def _all_see(clients: Iterable[redis.Redis], replica: redis.Redis) -> bool:
    return all(_sees(client, replica) for client in clients)


def _sees(client: redis.Redis, replica: redis.Redis) -> bool:
    """Whether a node knows the replica's master, so that the next replica is not given the same one."""
    own = _myself(replica)
    return any(node["node_id"] == own["node_id"] and node["master_id"] != "-" for node in _nodes(client).values())


def await_takeover(settings: Settings, address: Address) -> None:
    """Returns when a node that died is no master in the others' eyes, unless nobody can take over from it.

    Its replica has every event that was accepted; its own file may lack what it had not written when it was killed. So
    it comes back as a replica, and what it lacks is copied to it.
    """
    others = [other for other in addresses(settings.redis_nodes) if other != address]
    deadline = time.monotonic() + TAKEOVER_SECONDS
    while time.monotonic() < deadline:
        nodes = _seen_by_any(settings, others)
        own = nodes.get(str(address))
        if not own or not own["slots"] or not any(_replaces(node, own) for node in nodes.values()):
            return
        time.sleep(POLL_SECONDS)


def _replaces(node: dict[str, Any], master: dict[str, Any]) -> bool:
    return bool(node["master_id"] == master["node_id"] and "fail" not in node["flags"])


def _seen_by_any(settings: Settings, others: list[Address]) -> dict[str, dict[str, Any]]:
    """The nodes as one sees them that is in touch with most; none where there is no such node."""
    for other in others:
        with contextlib.suppress(redis.RedisError), client_of(settings, other) as client:
            if _state(client)["cluster_state"] == "ok":
                return _nodes(client)
    return {}


def _state(client: redis.Redis) -> dict[str, str]:
    state: dict[str, str] = client.execute_command("CLUSTER INFO")
    return state


def _nodes(client: redis.Redis) -> dict[str, dict[str, Any]]:
    """What a node knows of each node, by address: node_id, flags, master_id (`-` for a master), slots and more."""
    nodes: dict[str, dict[str, Any]] = client.execute_command("CLUSTER NODES")
    return nodes


def _myself(client: redis.Redis) -> dict[str, Any]:
    return next(node for node in _nodes(client).values() if "myself" in node["flags"])


def _has_slots(client: redis.Redis) -> bool:
    return any(node["slots"] for node in _nodes(client).values())


def _knows(client: redis.Redis, where: tuple[Address, ...]) -> bool:
    nodes = _nodes(client)
    return all(str(address) in nodes and "handshake" not in nodes[str(address)]["flags"] for address in where)


def _slots_known(client: redis.Redis) -> int:
    return int(_state(client)["cluster_slots_assigned"])


def _replicated(client: redis.Redis, master: str) -> int:
    return sum(node["master"] == master for node in _nodes(client).values())


def _responds(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _until(done: Callable[[], bool], otherwise: str) -> None:
    """Returns when something is done.

    Raises:
        ServiceError: it is not within JOIN_SECONDS.
    """
    deadline = time.monotonic() + JOIN_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise ServiceError(f"Redis's nodes made no cluster within {JOIN_SECONDS:g} s: {otherwise}. See their logs.")
        time.sleep(POLL_SECONDS)
