"""The four servers in containers, by compose.yaml."""

import os
import subprocess
from collections.abc import Mapping

from data_exchange_center.settings import ROOT, Settings
from services.credentials import passwords
from services.processes import ServiceError

COMPOSE = ["docker", "compose", "-f", str(ROOT / "services/compose.yaml")]
ENGINE_SECONDS = 20
UNUSED_PASSWORD = "unused"  # compose.yaml cannot be read without one, not even to stop the containers


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
    _compose(settings, passwords(settings), "up", "--detach")


def stop(settings: Settings) -> None:
    """Stops and removes the containers; their data stays in the volumes. No password is made up for that.

    Raises:
        ServiceError: docker is missing or refuses.
    """
    _compose(settings, {name: own or UNUSED_PASSWORD for name, own in passwords(settings).items()}, "down")


def _compose(settings: Settings, secrets: Mapping[str, str], *arguments: str) -> None:
    """Runs `docker compose` with the settings as the variables of compose.yaml."""
    variables = {
        "ARTEFACTS_DIR": str(settings.artefacts),
        "HOST_UID": str(os.getuid()),
        **{name.upper(): password for name, password in secrets.items()},
        **{name.upper(): str(getattr(settings, name)) for name in Settings.model_fields if name.endswith("_port")},
    }
    try:
        done = subprocess.run([*COMPOSE, *arguments], env={**os.environ, **variables}, check=False)
    except FileNotFoundError as error:
        raise ServiceError("`docker` is not on the PATH: install Docker, or use SERVICES=native.") from error
    if done.returncode:
        raise ServiceError("docker compose failed; see its message above, or use SERVICES=native.")
