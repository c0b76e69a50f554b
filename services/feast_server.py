"""Feast's feature server, from this environment."""

import sys

from data_exchange_center.settings import FEAST_REPOSITORY, Settings
from services.processes import Port, Recorder
from services.readiness import responds


def ports(settings: Settings) -> list[Port]:
    """Where Feast listens."""
    return [Port(settings.feast_host, settings.feast_port, "Feast", "FEAST_PORT")]


def is_ready(settings: Settings) -> bool:
    """Whether the feature server responds."""
    return responds(settings.feast_url + "/health")


def start(settings: Settings, recorder: Recorder, name: str = "feast") -> None:
    """`feast serve` from this environment."""
    (settings.artefacts / "online/feast/data").mkdir(parents=True, exist_ok=True)
    serve = ["serve", "--host", settings.feast_host, "--port", str(settings.feast_port), "--no-access-log"]
    serve += ["--max-requests", "0"]  # by default the only worker is replaced after 1000, and is away for seconds
    repository = ["-c", str(FEAST_REPOSITORY), "-f", str(settings.feast_configuration)]
    command = [sys.executable, "-m", "feast.cli.cli", *repository, *serve]
    recorder.start(name, command, settings.feast_environment(), FEAST_REPOSITORY)
