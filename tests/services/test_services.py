"""Establishes that starting refuses with a sentence, and that stopping ends what was recorded and nothing else."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from data_exchange_center.settings import Settings
from services import native
from services.processes import Recorder, ServiceError, check_port_free
from tests.conftest import run_module

SLEEPING_WITH_CHILD = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
time.sleep(60)
"""


def test_a_process_is_stopped_with_its_children(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.start("web", [sys.executable, "-c", SLEEPING_WITH_CHILD], {}, tmp_path)
    process = recorder.running("web")
    assert process is not None and recorder.names() == ["web"]
    while not process.children():
        pass
    (child,) = process.children()
    assert recorder.stop("web") and not psutil.pid_exists(process.pid) or process.status() == psutil.STATUS_ZOMBIE
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
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


@pytest.mark.parametrize("missing", ["java", "mvn"])
def test_missing_java_or_maven_is_a_sentence(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH that has everything but the one; nothing downloaded yet."""
    tools = tmp_path / "bin"
    tools.mkdir()
    java = tools / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n")
    java.chmod(0o755)
    (tools / missing).unlink(missing_ok=True)
    monkeypatch.setenv("PATH", f"{tools}:/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("SERVICES_DIR", str(tmp_path / "services"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ES_PORT", str(free.getsockname()[1]))
    with pytest.raises(ServiceError, match=r"(?s)(Java|Maven).*apt install.*SERVICES=docker"):
        native.start_elasticsearch(Settings(), Recorder(tmp_path / "run"))


def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "bin/java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ServiceError, match="needs Java 17 or newer.*11.0.2"):
        native._java_home()


def test_a_password_is_made_once_and_kept_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("WEB_PORT=5050\nES_PASSWORD=\n")
    monkeypatch.setattr(native, "ENV_FILE", env_file)
    monkeypatch.setenv("ES_PASSWORD", "")
    made = native.elasticsearch_password(Settings(_env_file=None))
    assert len(made) >= 24 and env_file.read_text() == f"WEB_PORT=5050\nES_PASSWORD={made}\n"
    assert env_file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("ES_PASSWORD", "given")
    assert native.elasticsearch_password(Settings()) == "given" and "given" not in env_file.read_text()


def test_bad_settings_are_named() -> None:
    done = run_module("services", "status", REDIS_PORT="many")
    assert done.returncode == 1 and "REDIS_PORT" in done.stderr and "Traceback" not in done.stderr
