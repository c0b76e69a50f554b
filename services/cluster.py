"""The small cluster: several nodes of each service on one machine, each a server of its own, behind nginx.

Each node is started by the very function that starts the single server, from settings in which that node's address
stands where the single server's would.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from data_exchange_center.addresses import Address, addresses
from data_exchange_center.settings import Settings
from services import (
    elasticsearch_server,
    feast_server,
    nginx_server,
    redis_cluster,
    redis_server,
    triton_server,
    web_server,
)
from services.processes import Port, Recorder
from services.readiness import responds
from services.server import Server

WHOLE = "/_cluster/health?wait_for_status=green&wait_for_nodes=%3E%3D{}&timeout=4s"


def servers(settings: Settings) -> tuple[Server, ...]:
    """All nodes but the web servers', in the order in which they are started."""
    return (
        *_each("redis", "REDIS_NODES", settings.redis_nodes, _redis),
        *_each("elasticsearch", "ES_NODES", settings.es_nodes, _elasticsearch),
        *_each("feast", "FEAST_NODES", settings.feast_nodes, _feast),
        *_each("triton", "TRITON_NODES", settings.triton_nodes, _triton),
        Server("nginx", nginx_server.ports, nginx_server.start, nginx_server.is_ready),
    )


def web_servers(settings: Settings) -> tuple[Server, ...]:
    """The web servers."""
    return tuple(_each("web", "WEB_NODES", settings.web_nodes, _web))


def of_service(name: str) -> str:
    """The service that a node is of: `redis` for `redis-1`."""
    return name.split("-")[0]


def prepare(settings: Settings, missing: list[Server]) -> None:
    """To be called before those that are missing are started: a master of Redis comes back as a replica."""
    for server in missing:
        if of_service(server.name) == "redis":
            (port,) = server.ports(settings)
            redis_cluster.await_takeover(settings, Address(port.host, port.port))


Node = tuple[Callable[[Settings], list[Port]], Callable[[Settings, Recorder, str], None], Callable[[Settings], bool]]


def _each(
    service: str, setting: str, nodes: str, node: Callable[[Address], tuple[dict[str, Any], Node]]
) -> list[Server]:
    """A server for each node: `node` gives what differs in its settings, and the functions of the single server."""
    found = []
    for number, address in enumerate(addresses(nodes), 1):
        own, (ports, start, is_ready) = node(address)
        name = f"{service}-{number}"
        found.append(
            Server(
                name,
                partial(_ports, ports, own, setting),
                partial(_start, start, own, name),
                partial(_is_ready, is_ready, own),
            )
        )
    return found


def _ports(
    ports: Callable[[Settings], list[Port]], own: dict[str, Any], setting: str, settings: Settings
) -> list[Port]:
    return [port._replace(setting=setting) for port in ports(settings.model_copy(update=own))]


def _start(
    start: Callable[[Settings, Recorder, str], None],
    own: dict[str, Any],
    name: str,
    settings: Settings,
    recorder: Recorder,
) -> None:
    start(settings.model_copy(update=own), recorder, name)


def _is_ready(is_ready: Callable[[Settings], bool], own: dict[str, Any], settings: Settings) -> bool:
    return is_ready(settings.model_copy(update=own))


def _redis(address: Address) -> tuple[dict[str, Any], Node]:
    own = {"redis_host": address.host, "redis_port": address.port}
    start = partial(redis_server.start, options=redis_cluster.OPTIONS)
    return own, (redis_server.ports, start, lambda settings: redis_cluster.is_ready(settings, address))


def _elasticsearch(address: Address) -> tuple[dict[str, Any], Node]:
    own = {"es_host": address.host, "es_port": address.port}
    return own, (elasticsearch_server.ports, elasticsearch_server.start, _elasticsearch_is_whole)


def _elasticsearch_is_whole(settings: Settings) -> bool:
    """Whether this node sees all nodes, and every copy of the index has its place."""
    health = WHOLE.format(len(addresses(settings.es_nodes)))
    return responds(settings.es_url + health, settings.es_user, settings.es_password.get_secret_value())


def _feast(address: Address) -> tuple[dict[str, Any], Node]:
    own = {"feast_host": address.host, "feast_port": address.port}
    return own, (feast_server.ports, feast_server.start, feast_server.is_ready)


def _triton(address: Address) -> tuple[dict[str, Any], Node]:
    """Its ports for HTTP and metrics are those beside the one for gRPC, as 8000 and 8002 are beside 8001."""
    names = ("triton_http_port", "triton_grpc_port", "triton_metrics_port")
    own = {"triton_host": address.host, **{name: address.port + beside for beside, name in enumerate(names, -1)}}
    return own, (triton_server.ports, triton_server.start, triton_server.is_ready)


def _web(address: Address) -> tuple[dict[str, Any], Node]:
    own = {"web_host": address.host, "web_port": address.port}
    return own, (web_server.ports, web_server.start, web_server.is_ready)
