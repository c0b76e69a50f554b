"""Elasticsearch without Docker, with its password on."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from data_exchange_center.settings import Settings
from services.elasticsearch_distribution import elasticsearch_home, java_home
from services.folders import reachable_folder, stand_in
from services.processes import Port, Recorder, ServiceError
from services.readiness import responds

HEAP = "512m"
NOBODY = 65534  # the user that it runs as where we are root, as which it refuses to run
HEALTH = "/_cluster/health?wait_for_status=yellow&timeout=4s"  # `/` is 405 in this distribution


def ports(settings: Settings) -> list[Port]:
    """Where Elasticsearch listens."""
    return [Port(settings.es_host, settings.es_port, "Elasticsearch", "ES_PORT")]


def is_ready(settings: Settings) -> bool:
    """Whether the cluster is healthy, for those who have the password."""
    password = settings.es_password.get_secret_value()
    return bool(password) and responds(settings.es_url + HEALTH, settings.es_user, password)


def start(settings: Settings, recorder: Recorder) -> None:
    """Elasticsearch's own distribution from Maven Central, on Java, with its password on."""
    java = java_home()
    as_user = NOBODY if os.geteuid() == 0 else None  # Elasticsearch refuses to run as root
    home = elasticsearch_home(distribution_folder(settings, as_user))
    state = reachable_folder(recorder.folder, as_user) / "elasticsearch"
    config = state / "config"
    for folder in (state, config, state / "data", state / "logs", state / "tmp"):
        folder.mkdir(parents=True, exist_ok=True)
    for file in (home / "config").iterdir():
        if file.is_file() and not (config / file.name).exists():
            shutil.copy2(file, config / file.name)
    (config / "jvm.options.d").mkdir(exist_ok=True)
    (config / "elasticsearch.yml").write_text(configuration(settings, state), "utf-8")
    env = {
        "ES_JAVA_HOME": str(java),
        "ES_PATH_CONF": str(config),
        "ES_JAVA_OPTS": f"-Xms{HEAP} -Xmx{HEAP}",
        "ES_TMPDIR": str(state / "tmp"),
        "LIBFFI_TMPDIR": str(state / "tmp"),
    }
    _store_password(home, config, env, settings.es_password.get_secret_value())
    if as_user is not None:
        for path in (state, *state.rglob("*")):
            os.chown(path, as_user, as_user)
    recorder.start("elasticsearch", [str(home / "bin/elasticsearch")], env, state, as_user)


def distribution_folder(settings: Settings, user: int | None) -> Path:
    """Where the distribution is unpacked: SERVICES_DIR, or a stand-in if Elasticsearch could not start from there."""
    folder = reachable_folder(settings.folder(settings.services_dir), user)
    # Java parts the paths of a class path at colons, and Elasticsearch's launcher drops what follows a `#`.
    return stand_in(folder) if set("#:") & set(str(folder)) else folder


def configuration(settings: Settings, state: Path) -> str:
    """The text of elasticsearch.yml for a server that keeps its data and logs under `state`."""
    values = {
        "cluster.name": "recsys_pipeline",
        "node.name": "one",
        "discovery.type": "single-node",
        "network.host": settings.es_host,
        "http.port": settings.es_port,
        "path.data": str(state / "data"),
        "path.logs": str(state / "logs"),
        "xpack.security.enabled": True,
        "xpack.security.http.ssl.enabled": False,
        "xpack.security.transport.ssl.enabled": False,
        "cluster.routing.allocation.disk.threshold_enabled": False,  # a full laptop disk must not block writes
    }
    # JSON is YAML, and quotes text: a folder's name may hold what YAML takes for a comment.
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def _store_password(home: Path, config: Path, env: dict[str, str], password: str) -> None:
    """Puts the password into Elasticsearch's keystore, unless this one is there already."""
    keystore, mark = config / "elasticsearch.keystore", config / "password.sha256"
    digest = hashlib.sha256(password.encode()).hexdigest()
    if keystore.exists() and mark.exists() and mark.read_text() == digest:
        return
    keystore.unlink(missing_ok=True)
    tool = str(home / "bin/elasticsearch-keystore")
    for arguments, entered in ((["create"], ""), (["add", "-x", "bootstrap.password"], password)):
        done = subprocess.run(
            [tool, *arguments], env={**os.environ, **env}, input=entered, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ServiceError(f"{tool} {arguments[0]} failed: {(done.stdout + done.stderr).strip()[-500:]}")
    mark.write_text(digest)
