"""One stack: the four servers or their cluster, and the web server, started, shown and stopped by their records."""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import tenacity

from data_exchange_center.settings import Settings
from services import (
    cluster,
    compose,
    elasticsearch_server,
    feast_server,
    redis_cluster,
    redis_server,
    spark_cluster,
    triton_server,
    web_server,
)
from services.credentials import SPARK_SECRET, with_passwords
from services.processes import Recorder, ServiceError, check_port_free
from services.server import Server

READY_SECONDS = 120
POLL_SECONDS = 0.3
WEB = "web"


# In the order in which they are started.
SERVERS = (
    Server("redis", redis_server.ports, redis_server.start, redis_server.is_ready),
    Server("elasticsearch", elasticsearch_server.ports, elasticsearch_server.start, elasticsearch_server.is_ready),
    Server("feast", feast_server.ports, feast_server.start, feast_server.is_ready),
    Server("triton", triton_server.ports, triton_server.start, triton_server.is_ready),
)
WEB_SERVER = Server(WEB, web_server.ports, web_server.start, web_server.is_ready)
# A server stops before those that it uses, at once with those that are nothing to it; of a cluster each node does so in
# its service's place.
STOP_ORDER = (("nginx",), (WEB,), ("feast", "triton", "elasticsearch", "spark"), ("redis",))


def recorder_of(settings: Settings) -> Recorder:
    """The records of this stack's processes."""
    return Recorder(settings.folder(settings.run_dir))


def servers(settings: Settings) -> tuple[Server, ...]:
    """All servers but the web server, in the order in which they are started."""
    return cluster.servers(settings) if settings.is_cluster else SERVERS


def start(settings: Settings) -> None:
    """Starts what is not running and waits until all are ready.

    Raises:
        ServiceError: one cannot be started or is not ready in time; the end of its log is in the message.
    """
    recorder, settings = recorder_of(settings), with_passwords(settings)
    if compose.in_docker(settings):
        compose.start(settings)
    else:
        _start_processes(settings, recorder, servers(settings))
    if settings.is_cluster:
        redis_cluster.join(settings)
    _wait({server.name: partial(server.is_ready, settings) for server in servers(settings)}, recorder, _print_ready)


def _print_ready(name: str) -> None:
    print(f"{name} is ready", flush=True)


def _start_processes(settings: Settings, recorder: Recorder, all_of_them: Sequence[Server]) -> None:
    """Starts those that are not running, once it is known that all of them find their ports free."""
    missing = [server for server in all_of_them if not recorder.running(server.name)]
    for server in missing:
        for port in server.ports(settings):
            check_port_free(*port)
    if settings.is_cluster:
        cluster.prepare(settings, missing)
    for server in missing:
        server.start(settings, recorder)


def _wait(checks: dict[str, Callable[[], bool]], recorder: Recorder, announce: Callable[[str], None]) -> None:
    """Returns when all servers are ready.

    Args:
        checks: whether a server is ready, by its name.
        recorder: of their processes; a container has no record.
        announce: called with the name of each server as soon as it is ready.

    Raises:
        ServiceError: one has ended, or is not ready after READY_SECONDS.
    """
    waiting = dict(checks)

    def all_ready() -> bool:
        for name, is_ready in list(waiting.items()):
            if is_ready():
                announce(name)
                del waiting[name]
            elif name in recorder.names() and not recorder.running(name):
                raise ServiceError(f"{name} has ended. The end of {recorder.log(name)}:\n{recorder.tail(name)}")
        return not waiting

    polling = tenacity.Retrying(
        stop=tenacity.stop_after_delay(READY_SECONDS),
        wait=tenacity.wait_fixed(POLL_SECONDS),
        retry=tenacity.retry_if_result(lambda ready: not ready),
    )
    try:
        polling(all_ready)
    except tenacity.RetryError as error:
        late = next(iter(waiting))
        raise ServiceError(
            f"{', '.join(waiting)} not ready after {READY_SECONDS} s. The end of {recorder.log(late)}:\n"
            f"{recorder.tail(late)}"
        ) from error


def status(settings: Settings) -> None:
    """Prints each server's state; ends with status 1 when one is not ready."""
    recorder = recorder_of(settings)
    ready = {server.name: server.is_ready(settings) for server in servers(settings)}
    width = max(14, *map(len, ready))
    for name, is_ready in ready.items():
        process = recorder.running(name)
        print(
            f"{name:<{width}} {'ready' if is_ready else 'not ready':<10} {f'process {process.pid}' if process else ''}"
        )
    if not all(ready.values()):
        sys.exit(1)


def serve(settings: Settings) -> None:
    """Starts the web server in the background, again if it was running, and waits until it responds.

    Of a cluster those are started that are not running: one that runs finds out by itself what was loaded.

    Raises:
        ServiceError: it ends, or does not respond in time.
    """
    recorder = recorder_of(settings)
    web = cluster.web_servers(settings) if settings.is_cluster else (WEB_SERVER,)
    if not settings.is_cluster:
        recorder.stop(WEB)
    _start_processes(settings, recorder, web)
    address = f"http://{settings.web_host}:{settings.web_port}"
    _wait({server.name: partial(server.is_ready, settings) for server in web}, recorder, lambda _: None)
    print(f"the page: {address}  (log in {', '.join(str(recorder.log(server.name)) for server in web)})")


def start_spark(settings: Settings) -> None:
    """Starts what is not running of the Spark cluster, and waits until its workers are there.

    Raises:
        ServiceError: it is not installed, cannot be started or is not ready in time.
    """
    recorder, settings = recorder_of(settings), with_passwords(settings, SPARK_SECRET)
    spark_cluster.start(settings, recorder)
    told = f"the cluster: make offline ENGINE=spark SPARK_MASTER={spark_cluster.address(settings)}"
    _wait(
        {spark_cluster.MASTER: partial(spark_cluster.is_ready, settings)}, recorder, lambda _: print(told, flush=True)
    )


def is_serving(settings: Settings) -> bool:
    """Whether the web server responds; of which data set and how well is for the caller to find out."""
    return web_server.is_ready(settings)


def stop(settings: Settings) -> None:
    """Stops what this stack started, by its records, the web server first; and the containers, if it started those."""
    recorder = recorder_of(settings)
    for together in STOP_ORDER:
        nodes = [name for name in recorder.names() if cluster.of_service(name) in together]
        with ThreadPoolExecutor(max(len(nodes), 1)) as pool:  # each takes seconds to write what it holds
            for name, stopped in zip(nodes, pool.map(recorder.stop, nodes), strict=True):
                if stopped:
                    print(f"stopped {name}")
    if compose.in_docker(settings):
        compose.stop(settings)
