"""Starts, shows and stops the four servers, and the web server in the background.

    python -m services start|status|serve|stop        (or: make services, status, serve, stop)

`SERVICES=docker` uses compose.yaml, `SERVICES=native` starts them without Docker, `auto` asks whether an engine is
there.
"""

import argparse
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable

import redis

from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from services import native
from services.processes import Recorder, ServiceError, check_port_free

READY_SECONDS = 120
WEB = "web"
COMPOSE = ["docker", "compose", "-f", str(ROOT / "services/compose.yaml")]
STARTS: dict[str, Callable[[Settings, Recorder], None]] = {
    "redis": native.start_redis,
    "elasticsearch": native.start_elasticsearch,
    "feast": native.start_feast,
    "triton": native.start_triton,
}


def _answers(url: str, password: str = "") -> bool:
    request = urllib.request.Request(url)
    if password:
        request.add_header("Authorization", "Basic " + b64encode(f"elastic:{password}".encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def is_ready(name: str, settings: Settings) -> bool:
    """Whether the server answers as a server that can be used."""
    if name == "redis":
        try:
            return bool(redis.Redis(settings.redis_host, settings.redis_port, socket_timeout=5).ping())
        except redis.RedisError:
            return False
    if name == "elasticsearch":
        password = settings.es_password.get_secret_value()
        health = "/_cluster/health?wait_for_status=yellow&timeout=4s"  # `/` is 405 in this distribution
        return bool(password) and _answers(settings.es_url + health, password)
    if name == "feast":
        return _answers(settings.feast_url + "/health")
    return _answers(f"http://{settings.triton_host}:{settings.triton_http_port}/v2/health/ready")


def in_docker(settings: Settings) -> bool:
    """Whether the servers are containers: as the setting says, else when an engine and its `compose` answer."""
    if settings.services != "auto":
        return settings.services == "docker"
    try:
        return all(
            subprocess.run(["docker", *question], capture_output=True, timeout=20, check=False).returncode == 0
            for question in (["info"], ["compose", "version"])
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def compose(settings: Settings, *arguments: str) -> None:
    """Runs `docker compose` with the settings as its variables.

    Raises:
        ServiceError: docker is missing or refuses.
    """
    for folder in ("online/triton", "online/feast/data"):  # else Docker would make them, as root
        (settings.artefacts / folder).mkdir(parents=True, exist_ok=True)
    variables = {
        "ARTEFACTS_DIR": str(settings.artefacts),
        "HOST_UID": str(os.getuid()),
        "ES_PASSWORD": native.elasticsearch_password(settings),
        **{name.upper(): str(getattr(settings, name)) for name in Settings.model_fields if name.endswith("_port")},
    }
    try:
        done = subprocess.run([*COMPOSE, *arguments], env={**os.environ, **variables}, check=False)
    except FileNotFoundError as error:
        raise ServiceError("`docker` is not on the PATH: install Docker, or use SERVICES=native.") from error
    if done.returncode:
        raise ServiceError("docker compose failed; see its message above, or use SERVICES=native.")


def recorder_of(settings: Settings) -> Recorder:
    """The records of this stack's processes."""
    return Recorder(settings.folder(settings.run_dir))


def start(settings: Settings) -> None:
    """Starts what is not running and waits until all four are ready.

    Raises:
        ServiceError: one cannot be started or is not ready in time; the end of its log is in the message.
    """
    recorder = recorder_of(settings)
    if in_docker(settings):
        compose(settings, "up", "--detach")
    else:
        for name, start_one in STARTS.items():
            if not recorder.running(name):
                start_one(settings, recorder)
    settings = Settings()  # the password may be new
    began = time.monotonic()
    waiting = list(STARTS)
    while waiting:
        for name in list(waiting):
            if is_ready(name, settings):
                waiting.remove(name)
                print(f"{name} is ready after {time.monotonic() - began:.0f} s", flush=True)
            elif name in recorder.names() and not recorder.running(name):
                raise ServiceError(f"{name} has ended. The end of {recorder.log(name)}:\n{recorder.tail(name)}")
        if waiting and time.monotonic() - began > READY_SECONDS:
            raise ServiceError(
                f"{', '.join(waiting)} not ready after {READY_SECONDS} s. The end of {recorder.log(waiting[0])}:\n"
                f"{recorder.tail(waiting[0])}"
            )
        time.sleep(0.3)


def status(settings: Settings) -> None:
    """Prints each server's state; ends with status 1 when one is not ready."""
    recorder = recorder_of(settings)
    ready = {name: is_ready(name, settings) for name in STARTS}
    for name, answers in ready.items():
        process = recorder.running(name)
        print(f"{name:<14} {'ready' if answers else 'not ready':<10} {f'process {process.pid}' if process else ''}")
    if not all(ready.values()):
        sys.exit(1)


def serve(settings: Settings) -> None:
    """Starts the web server in the background, anew if it was running, and waits until it answers.

    Raises:
        ServiceError: it ends, or does not answer in time.
    """
    recorder = recorder_of(settings)
    recorder.stop(WEB)
    check_port_free(settings.web_host, settings.web_port, "the web server", "WEB_PORT")
    recorder.start(WEB, [sys.executable, "-m", "online.main.s1_server"], {}, ROOT)
    address = f"http://{settings.web_host}:{settings.web_port}"
    began = time.monotonic()
    while not _answers(f"{address}/health"):
        if not recorder.running(WEB) or time.monotonic() - began > READY_SECONDS:
            raise ServiceError(f"the web server does not answer. The end of {recorder.log(WEB)}:\n{recorder.tail(WEB)}")
        time.sleep(0.2)
    print(f"the page: {address}  (log in {recorder.log(WEB)})")


def stop(settings: Settings) -> None:
    """Stops what this stack started, by its records, the web server first; and the containers, if it started those."""
    recorder = recorder_of(settings)
    for name in sorted(recorder.names(), key=[WEB, "feast", "triton", "elasticsearch", "redis"].index):
        if recorder.stop(name):
            print(f"stopped {name}")
    if in_docker(settings):
        compose(settings, "down")


def main() -> None:
    """The verbs."""
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    verbs: dict[str, Callable[[Settings], None]] = {
        "start": start,
        "status": status,
        "serve": serve,
        "stop": stop,
    }
    parser.add_argument("verb", choices=verbs)
    verbs[parser.parse_args().verb](Settings())


if __name__ == "__main__":
    run_stage(main)
