"""The web server in the background, from this environment."""

import sys

from data_exchange_center.addresses import addresses
from data_exchange_center.settings import ROOT, Settings
from services.processes import Port, Recorder
from services.readiness import responds


def ports(settings: Settings) -> list[Port]:
    """Where the web server listens."""
    return [Port(settings.web_host, settings.web_port, "the web server", "WEB_PORT")]


def is_ready(settings: Settings) -> bool:
    """Whether it responds; of which data set and how well is for the caller to find out."""
    return responds(f"http://{settings.web_host}:{settings.web_port}/health")


def start(settings: Settings, recorder: Recorder, name: str = "web") -> None:
    """`python -m online.main.s1_server`.

    Args:
        settings: where it listens.
        recorder: of the process.
        name: of the process. In a cluster it is that of the node, which has a folder of its own for its metrics and its
            share of the workers.
    """
    env = {}
    if settings.is_cluster:
        workers = max(settings.web_workers // len(addresses(settings.web_nodes)), 1)
        env = {
            "WEB_HOST": settings.web_host,
            "WEB_PORT": str(settings.web_port),
            "WEB_WORKERS": str(workers),
            "RUN_DIR": str(recorder.folder / name),
        }
    recorder.start(name, [sys.executable, "-m", "online.main.s1_server"], env, ROOT)
