"""The four servers in containers, by compose.yaml; their cluster, by compose.cluster.yaml."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from data_exchange_center.addresses import addresses
from data_exchange_center.settings import ROOT, Settings
from services import nginx_server
from services.credentials import passwords
from services.elasticsearch_server import TRANSPORT
from services.processes import ServiceError

IN_CONTAINER = Path("/tmp")  # where nginx keeps its files there
ENGINE_SECONDS = 20
UNUSED_PASSWORD = "unused"  # the file cannot be read without one, not even to stop the containers


def in_docker(settings: Settings) -> bool:
    """Whether the servers are containers: as the setting says, else when an engine and its `compose` respond."""
    if settings.services != "auto":
        return settings.services == "docker"
    try:
        for command in (["docker", "info"], ["docker", "compose", "version"]):
            subprocess.run(command, capture_output=True, timeout=ENGINE_SECONDS, check=True)
    except (FileNotFoundError, subprocess.SubprocessError):
        return False
    return True


def start(settings: Settings) -> None:
    """Starts the containers that are not running.

    Raises:
        ServiceError: docker is missing or refuses.
    """
    for folder in ("online/triton", "online/feast/data"):  # Docker would make the missing ones, owned by root
        (settings.artefacts / folder).mkdir(parents=True, exist_ok=True)
    if settings.is_cluster:
        nginx = settings.folder(settings.run_dir) / "nginx"
        nginx.mkdir(parents=True, exist_ok=True)
        (nginx / "nginx.conf").write_text(nginx_server.configuration(settings, IN_CONTAINER), "utf-8")
    _compose(settings, passwords(settings), "up", "--detach")


def stop(settings: Settings) -> None:
    """Stops and removes the containers; their data stays in the volumes. No password is made up for that.

    Raises:
        ServiceError: docker is missing or refuses.
    """
    _compose(settings, {name: own or UNUSED_PASSWORD for name, own in passwords(settings).items()}, "down")


def _compose(settings: Settings, secrets: Mapping[str, str], *arguments: str) -> None:
    """Runs `docker compose` with the settings as the variables of its file."""
    file = ROOT / ("services/compose.cluster.yaml" if settings.is_cluster else "services/compose.yaml")
    variables = {
        "RUN_DIR": str(settings.folder(settings.run_dir)),
        "FEAST_REDIS": settings.feast_environment()["FEAST_REDIS"],
        **_ports_of_nodes(settings),
        "ARTEFACTS_DIR": str(settings.artefacts),
        "HOST_UID": str(os.getuid()),
        **{name.upper(): password for name, password in secrets.items()},
        **{name.upper(): str(getattr(settings, name)) for name in Settings.model_fields if name.endswith("_port")},
    }
    try:
        done = subprocess.run(
            ["docker", "compose", "-f", str(file), *arguments], env={**os.environ, **variables}, check=False
        )
    except FileNotFoundError as error:
        raise ServiceError("`docker` is not on the PATH: install Docker, or use SERVICES=native.") from error
    if done.returncode:
        raise ServiceError("docker compose failed; see its message above, or use SERVICES=native.")


def _ports_of_nodes(settings: Settings) -> dict[str, str]:
    """The variables of compose.cluster.yaml: REDIS_1 is the port of the first node of REDIS_NODES."""
    ports = {
        f"{service}_{number}": node.port
        for service in ("redis", "es", "triton", "feast")
        for number, node in enumerate(addresses(getattr(settings, f"{service}_nodes")), 1)
    }
    beside = {
        f"{name}_{kind}": port + step
        for name, port in ports.items()
        for service, kind, step in (("es", "TRANSPORT", TRANSPORT), ("triton", "HTTP", -1), ("triton", "METRICS", 1))
        if name.startswith(service)
    }
    return {name.upper(): str(port) for name, port in {**ports, **beside}.items()}
