"""A stack of its own, for tests and benchmarks: all servers on free ports, in temporary folders, gone afterwards."""

import os
import random
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from data_exchange_center.measured_process import run_measured
from data_exchange_center.settings import Settings

PORTS = tuple(name.upper() for name in Settings.model_fields if name.endswith("_port"))


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def cluster_nodes() -> dict[str, str]:
    """The settings of a small cluster on free ports."""
    # How many nodes there are, and how far their other ports are from the one in the setting.
    nodes = {
        "REDIS_NODES": (6, (10_000,)),
        "ES_NODES": (3, (100,)),
        "TRITON_NODES": (2, (-1, 1)),
        "FEAST_NODES": (2, ()),
        "WEB_NODES": (2, ()),
    }
    # Below the ports that connections get, lest one takes a node's while the node is away.
    candidates, used = iter(random.sample(range(20_000, 22_000), 2_000)), set[int]()
    settings = {"TOPOLOGY": "cluster"}
    for setting, (count, beside) in nodes.items():
        own: list[int] = []
        while len(own) < count:
            port = next(candidates)
            ports = {port, *(port + step for step in beside)}
            if not ports & used and all(map(_is_free, ports)):
                own.append(port)
                used |= ports
        settings[setting] = ",".join(f"127.0.0.1:{port}" for port in own)
    return settings


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def settings_of_its_own() -> Iterator[dict[str, str]]:
    """The environment of a stack beside others, natively started; what was started with it is stopped at the end."""
    # The folder may be entered by all users, since under root Elasticsearch runs as another one.
    folder = Path(tempfile.mkdtemp(prefix="recsys-stack-"))
    folder.chmod(0o755)
    env = {
        **dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True)),
        "SERVICES": "native",
        "RUN_DIR": str(folder / "run"),
        "ARTEFACTS_DIR": str(folder / "artefacts"),
        "ES_PASSWORD": secrets.token_urlsafe(12),
        "REDIS_PASSWORD": secrets.token_urlsafe(12),
    }
    try:
        yield env
    finally:
        run_measured([sys.executable, "-m", "services", "stop"], env)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def in_force(env: Mapping[str, str]) -> Iterator[Settings]:
    """Within the block, this process's settings are those of `env`."""
    before = dict(os.environ)
    os.environ.update(env)
    try:
        yield Settings()
    finally:
        os.environ.clear()
        os.environ.update(before)
