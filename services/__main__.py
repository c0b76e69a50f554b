"""Starts, shows and stops the four servers, and the web server in the background.

    python -m services start|status|serve|stop        (or: make services, status, serve, stop)

`SERVICES=docker` uses compose.yaml, `SERVICES=native` starts them without Docker, `auto` asks whether an engine is
there.
"""

import argparse
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
COMPOSE = ["docker", "compose", "--project-directory", str(ROOT), "-f", str(ROOT / "services/compose.yaml")]
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


def docker_engine_answers() -> bool:
    """Whether `docker` is there and its engine is running."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def recorder_of(settings: Settings) -> Recorder:
    """The records of this stack's processes."""
    return Recorder(settings.folder(settings.run_dir))


def start(settings: Settings) -> None:
    """Starts what is not running and waits until all four are ready.

    Raises:
        ServiceError: one cannot be started or is not ready in time; the end of its log is in the message.
    """
    recorder = recorder_of(settings)
    if settings.services == "docker" or (settings.services == "auto" and docker_engine_answers()):
        native.elasticsearch_password(settings)
        if subprocess.run([*COMPOSE, "up", "--detach"], check=False).returncode:
            raise ServiceError("docker compose could not start the services; see its message above.")
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
    print(f"{address}/recommend?userid=1 answers; log in {recorder.log(WEB)}")


def stop(settings: Settings) -> None:
    """Stops what this stack started, by its records, the web server first; and the containers, if it started those."""
    recorder = recorder_of(settings)
    for name in sorted(recorder.names(), key=[WEB, "feast", "triton", "elasticsearch", "redis"].index):
        if recorder.stop(name):
            print(f"stopped {name}")
    if settings.services == "docker" or (settings.services == "auto" and docker_engine_answers()):
        subprocess.run([*COMPOSE, "down"], check=False)


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
