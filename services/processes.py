"""Processes that outlive the command that started them: recorded, found again, and stopped with their children."""

import errno
import json
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

LARGEST_PORT = 65_535
STOP_SECONDS = 20  # Elasticsearch takes some to flush


class ServiceError(Exception):
    """A server cannot be started; the message names it, the reason and the remedy."""

    is_expected = True


@dataclass(frozen=True)
class Recorder:
    """The processes of one stack, by name, in a folder of records."""

    folder: Path

    def log(self, name: str) -> Path:
        """Where the process writes what it prints."""
        return self.folder / f"{name}.log"

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.pid.json"

    def start(self, name: str, command: list[str], env: dict[str, str], cwd: Path, user: int | None = None) -> None:
        """Starts a process in a session of its own and records it.

        Args:
            name: under which it is found again.
            command: program and arguments.
            env: added to the environment.
            cwd: its working folder.
            user: numeric id to run as, for a process that must not be root.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        drop = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **env},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **drop,  # type: ignore[call-overload]
            )
        process.returncode = 0  # it is meant to outlive this object, which would warn of that
        # The time of creation tells this process from a later one that got the same number.
        born = psutil.Process(process.pid).create_time()
        self._record(name).write_text(json.dumps({"pid": process.pid, "created": born, "command": command}))

    def running(self, name: str) -> psutil.Process | None:
        """The recorded process, if it is still that one and alive."""
        try:
            record = json.loads(self._record(name).read_text())
            process = psutil.Process(record["pid"])
            alive = process.create_time() == record["created"] and process.status() != psutil.STATUS_ZOMBIE
            return process if alive else None
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None

    def family(self, name: str) -> list[psutil.Process]:
        """The recorded process, if it is alive, followed by its descendants."""
        process = self.running(name)
        return [process, *process.children(recursive=True)] if process else []

    def stop(self, name: str) -> bool:
        """Ends the recorded process and its children; True when there was one."""
        family = self.family(name)
        if family:
            # The parent ends its children in its own order; what is left after that is killed.
            family[0].terminate()
            _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
            for left in alive:
                left.kill()
            psutil.wait_procs(alive, timeout=5)
        self._record(name).unlink(missing_ok=True)
        return bool(family)

    def names(self) -> list[str]:
        """Names of all recorded processes."""
        return sorted(file.name.removesuffix(".pid.json") for file in self.folder.glob("*.pid.json"))

    def tail(self, name: str, lines: int = 15) -> str:
        """The end of the process's log."""
        log = self.log(name)
        return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:]) if log.exists() else ""


class Port(NamedTuple):
    """Where a server is to listen: the arguments of check_port_free."""

    host: str
    port: int
    service: str
    setting: str


def check_port_free(host: str, port: int, service: str, setting: str) -> None:
    """Refuses a port that cannot be listened on.

    Args:
        host: a name or an address of this machine.
        port: 1 to 65,535.
        service: the server's name, for the message.
        setting: the setting that holds the port, for the message.

    Raises:
        ServiceError: naming the port, the reason and the setting to change.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ServiceError(
                    f"port {port} for {service} is taken ({error.strerror}): stop what listens there, or set {setting} "
                    f"to a free port, for example `{setting}={_another_port(port)}` in .env."
                ) from error
            raise ServiceError(
                f"{service} cannot listen on {host}:{port} ({error.strerror}): check the host in the settings, and set "
                f"{setting} to a port that this user may open, for example `{setting}={_another_port(port)}` in .env."
            ) from error


def _another_port(port: int) -> int:
    """A port to propose, above those that only root may open and below the largest."""
    return port + 10_000 if 1024 <= port + 10_000 <= LARGEST_PORT else 20_000 + port % 10_000
