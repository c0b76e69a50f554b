"""Establishes that starting refuses with a sentence, and that stopping ends what was recorded and nothing else."""

import http.server
import json
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from itertools import chain
from pathlib import Path

import psutil
import pytest
import yaml

from data_exchange_center.settings import Settings
from services import __main__ as services_main
from services import (
    cluster,
    compose,
    credentials,
    elasticsearch_distribution,
    elasticsearch_server,
    folders,
    processes,
    spark_cluster,
    stack,
)
from services.__main__ import NOT_SERVING
from services.processes import Port, Recorder, ServiceError, check_port_free
from services.readiness import responds
from testkit.stack import PORTS, free_ports
from tests.conftest import run_module

SLEEPING_WITH_CHILD = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
time.sleep(60)
"""


class Healthy(http.server.BaseHTTPRequestHandler):
    """A server whose /health has status 200, and everything else 503."""

    def do_GET(self) -> None:
        self.send_response(HTTPStatus.OK if self.path == "/health" else HTTPStatus.SERVICE_UNAVAILABLE)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def health() -> Iterator[str]:
    """The address of a healthy server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def no_ports(settings: Settings) -> list[Port]:
    return []


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_process_is_stopped_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.5)  # the parent leaves its child behind, which is then killed
    recorder = Recorder(tmp_path)
    recorder.start("web", [sys.executable, "-c", SLEEPING_WITH_CHILD], {}, tmp_path)
    process = recorder.running("web")
    assert process is not None and recorder.names() == ["web"]
    deadline = time.monotonic() + 20
    while not process.children():
        assert time.monotonic() < deadline, "the child was never started"
        time.sleep(0.01)
    (child,) = process.children()
    assert recorder.stop("web")
    assert has_ended(process) and has_ended(child)
    assert recorder.names() == [] and not recorder.stop("web")


def test_another_process_with_a_recorded_number_is_left_alone(tmp_path: Path) -> None:
    """Numbers are used again: the record's time of creation decides."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        record = {"pid": other.pid, "created": 1.0, "command": []}
        (tmp_path / "redis.pid.json").write_text(json.dumps(record))
        recorder = Recorder(tmp_path)
        assert recorder.running("redis") is None and not recorder.stop("redis")
        assert other.poll() is None
        other.kill()


def test_a_taken_port_is_named_with_its_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"port {port} for Redis is taken .*REDIS_PORT"):
            check_port_free("127.0.0.1", port, "Redis", "REDIS_PORT")
        done = run_module("services", "serve", WEB_PORT=str(port), RUN_DIR=os.devnull + "-none")
        assert done.returncode == 1 and "WEB_PORT" in done.stderr and "Traceback" not in done.stderr


def test_a_port_that_may_not_be_opened_is_not_called_taken() -> None:
    with pytest.raises(ServiceError, match=r"cannot listen on 192\.0\.2\.1:6379 .*REDIS_PORT") as refused:
        check_port_free("192.0.2.1", 6379, "Redis", "REDIS_PORT")  # an address that no machine has
    assert "taken" not in str(refused.value)


@pytest.mark.parametrize("port", [80, 6379, 60_000, 65_535])
def test_the_port_proposed_exists(port: int) -> None:
    with pytest.raises(ServiceError) as refused:
        check_port_free("192.0.2.1", port, "Redis", "REDIS_PORT")
    proposed = int(str(refused.value).split("REDIS_PORT=")[1].split("`")[0])
    assert 1024 <= proposed <= 65_535 and proposed != port


@pytest.mark.parametrize("has_java", [False, True])
def test_missing_java_or_maven_is_a_sentence(has_java: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH without either, then one with Java alone; nothing is downloaded yet."""
    tools = tmp_path / "bin"
    tools.mkdir()
    if has_java:
        java = tools / "java"
        java.write_text("#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n")
        java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("SERVICES_DIR", str(tmp_path / "services"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ES_PORT", str(free.getsockname()[1]))
    sentence = (
        r"(?s)Maven.*`mvn` is not on the PATH.*apt install maven.*SERVICES=docker"
        if has_java
        else r"(?s)needs Java 17.*apt install openjdk.*SERVICES=docker"
    )
    with pytest.raises(ServiceError, match=sentence):
        elasticsearch_server.start(Settings(), Recorder(tmp_path / "run"))


def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "bin/java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ServiceError, match="needs Java 17 or newer.*11.0.2"):
        elasticsearch_distribution.java_home()


def test_a_password_is_made_once_and_kept_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("WEB_PORT=5050\nES_PASSWORD=\n")
    monkeypatch.setattr(credentials, "ENV_FILE", env_file)
    for name in ("ES_PASSWORD", "REDIS_PASSWORD"):
        monkeypatch.setenv(name, "")
    made = credentials.passwords(credentials.with_passwords(Settings(_env_file=None)))
    es, redis = made["es_password"], made["redis_password"]
    assert env_file.read_text() == f"WEB_PORT=5050\nES_PASSWORD={es}\nREDIS_PASSWORD={redis}\n"
    assert len(es) >= 24 <= len(redis) and es != redis and env_file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("ES_PASSWORD", "given")
    again = credentials.passwords(credentials.with_passwords(Settings(_env_file=env_file)))
    assert again == {"es_password": "given", "redis_password": redis} and "given" not in env_file.read_text()


@pytest.mark.parametrize("serves", [True, False])
def test_serving_says_that_no_web_server_responds(serves: bool, health: str) -> None:
    port = health.rsplit(":", 1)[1] if serves else str(free_ports(1)[0])
    done = run_module("services", "serving", WEB_PORT=port)
    assert done.returncode == (0 if serves else NOT_SERVING) and not done.stderr
    assert done.stdout == ("" if serves else f"no web server responds at 127.0.0.1:{port}\n")


@pytest.mark.parametrize("port", ["many", "0", "65536"])
def test_another_fault_is_not_taken_for_a_missing_web_server(port: str) -> None:
    done = run_module("services", "serving", WEB_PORT=port)
    assert done.returncode == 1 and done.stderr.startswith("error: setting WEB_PORT: ")


def test_what_is_unpacked_can_be_read_by_the_user_that_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[int] = []
    monkeypatch.setitem(services_main.VERBS, "stop", lambda _: masks.append(os.umask(0o022)))
    monkeypatch.setattr(sys, "argv", ["services", "stop"])
    before = os.umask(0o077)
    try:
        services_main.main()
    finally:
        os.umask(before)
    assert masks == [0o022]


@pytest.fixture
def docker_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that notes the password and its last argument, with settings that hold no password yet."""
    calls = tmp_path / "calls"
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\nfor last; do :; done\necho "$ES_PASSWORD $REDIS_PASSWORD $last" >>"{calls}"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SERVICES", "docker")
    monkeypatch.setenv("ES_PASSWORD", "")
    monkeypatch.setenv("REDIS_PASSWORD", "")
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path / "artefacts"))
    monkeypatch.setattr(credentials, "ENV_FILE", tmp_path / ".env")
    return calls


def test_stopping_containers_makes_no_password(docker_calls: Path, tmp_path: Path) -> None:
    """compose.yaml cannot be read without one, so that stopping hands over any other."""
    stack.stop(Settings(_env_file=None))
    es, redis, command = docker_calls.read_text().split()
    assert es and redis and command == "down" and not (tmp_path / ".env").exists()


def test_starting_containers_makes_one(docker_calls: Path, tmp_path: Path) -> None:
    compose.start(credentials.with_passwords(Settings(_env_file=None)))
    es, redis, command = docker_calls.read_text().split()
    assert command == "--detach"
    assert (tmp_path / ".env").read_text().splitlines() == [f"ES_PASSWORD={es}", f"REDIS_PASSWORD={redis}"]


def test_every_server_is_stopped_and_has_its_place() -> None:
    settings = Settings()
    nodes = (*cluster.servers(settings), *cluster.web_servers(settings))
    names = [stack.WEB, *(server.name for server in (*stack.SERVERS, *nodes)), *spark_cluster.names(settings)]
    assert sorted(chain(*stack.STOP_ORDER)) == sorted({cluster.of_service(name) for name in names})


def test_ports_are_checked_before_anything_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton comes last, and its port for metrics is its last: Redis is not left running beside the error."""
    for port in PORTS:
        monkeypatch.setenv(port, str(free_ports(1)[0]))
    monkeypatch.setenv("SERVICES", "native")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("TRITON_METRICS_PORT", str(taken.getsockname()[1]))
        with pytest.raises(ServiceError, match="for Triton is taken .*TRITON_METRICS_PORT"):
            stack.start(Settings(run_dir=tmp_path / "run"))
    assert Recorder(tmp_path / "run").names() == []


def test_each_port_of_the_settings_belongs_to_a_server() -> None:
    settings = Settings()
    ports = [port for server in stack.SERVERS for port in server.ports(settings)] + spark_cluster.ports(settings)
    assert sorted([*(port.setting for port in ports), "WEB_PORT"]) == sorted(PORTS)
    assert all(getattr(settings, port.setting.lower()) == port.port for port in ports)


def test_a_server_that_ends_at_once_is_shown_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though another one, before it in the order, is not ready yet."""

    def start(name: str, code: str) -> Callable[[Settings, Recorder], None]:
        return lambda settings, recorder: recorder.start(name, [sys.executable, "-c", code], {}, tmp_path)

    servers = (
        stack.Server("redis", no_ports, start("redis", "import time; time.sleep(60)"), lambda settings: False),
        stack.Server("triton", no_ports, start("triton", "exit('no model')"), lambda settings: False),
    )
    monkeypatch.setattr(stack, "SERVERS", servers)
    settings = Settings(services="native", run_dir=tmp_path / "run")
    try:
        with pytest.raises(ServiceError, match=r"(?s)triton has ended\..*triton\.log.*no model"):
            stack.start(settings)
    finally:
        stack.stop(settings)


def test_a_server_that_is_never_ready_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "READY_SECONDS", 0.1)
    monkeypatch.setattr(stack, "POLL_SECONDS", 0.01)
    ready = stack.Server("redis", no_ports, lambda settings, recorder: None, lambda settings: True)
    late = stack.Server("feast", no_ports, lambda settings, recorder: None, lambda settings: False)
    monkeypatch.setattr(stack, "SERVERS", (ready, late))
    with pytest.raises(ServiceError, match=r"^feast not ready after 0\.1 s"):
        stack.start(Settings(services="native", run_dir=tmp_path / "run"))


def test_readiness_takes_no_proxy_for_a_server_of_ours(health: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert responds(f"{health}/health") and not responds(f"{health}/busy")
    assert not responds(f"http://127.0.0.1:{free_ports(1)[0]}/health")


ODD_NAME = "a b #c \"d\" 'e' é: [f]"  # a comment, quotes, a key and a list to YAML, and several words to a shell


def test_elasticsearch_gets_its_folders_whatever_their_names(tmp_path: Path) -> None:
    state = tmp_path / ODD_NAME
    values = yaml.safe_load(elasticsearch_server.configuration(Settings(es_port=9201), state))
    assert values["path.data"] == str(state / "data") and values["path.logs"] == str(state / "logs")
    assert values["http.port"] == 9201 and values["xpack.security.enabled"] is True
    assert values["cluster.routing.allocation.disk.threshold_enabled"] is False


@pytest.mark.parametrize(("name", "is_itself"), [(ODD_NAME, False), ("a #b", False), ("a:b", False), ("a b'é", True)])
def test_elasticsearch_is_unpacked_where_java_finds_its_jars(name: str, is_itself: bool, tmp_path: Path) -> None:
    folder = elasticsearch_server.distribution_folder(Settings(services_dir=tmp_path / name), None)
    assert (folder == tmp_path / name) == is_itself and not set("#:") & set(str(folder))


def test_triton_gets_a_plain_path_to_an_odd_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins, odd = tmp_path / "links", tmp_path / ODD_NAME
    stand_ins.mkdir()
    monkeypatch.setattr(folders, "STAND_INS", stand_ins)
    assert folders.plain_path(tmp_path) == tmp_path and not list(stand_ins.iterdir())
    link = folders.plain_path(odd)
    assert shlex.split(str(link)) == [str(link)] and link.samefile(odd)
    assert folders.plain_path(odd) == link
    link.unlink()
    link.symlink_to(tmp_path)
    with pytest.raises(ServiceError, match="remove it"):
        folders.plain_path(odd)
    link.unlink()
    link.mkdir()
    with pytest.raises(ServiceError, match="remove it"):
        folders.plain_path(odd)


def test_bad_settings_are_named() -> None:
    done = run_module("services", "status", REDIS_PORT="many")
    assert done.returncode == 1 and "REDIS_PORT" in done.stderr and "Traceback" not in done.stderr
