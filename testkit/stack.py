"""A stack of its own, for tests and benchmarks: all servers on free ports, in temporary folders, gone afterwards."""

import os
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
