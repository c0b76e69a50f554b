"""Elasticsearch without Docker, with its password on."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from data_exchange_center.addresses import addresses
from data_exchange_center.settings import Settings
from services.elasticsearch_distribution import elasticsearch_home, java_home
from services.folders import reachable_folder, stand_in
from services.processes import Port, Recorder, ServiceError
from services.readiness import responds

HEAP = "512m"
CLUSTER_HEAP = "256m"  # of each node of the small cluster, which share one machine
TRANSPORT = 100  # a node's port for the others is its port for clients plus this, as 9300 is 9200's
NOBODY = 65534  # the user that it runs as where we are root, as which it refuses to run
HEALTH = "/_cluster/health?wait_for_status=yellow&timeout=4s"  # `/` is 405 in this distribution


def ports(settings: Settings) -> list[Port]:
    """Where Elasticsearch listens."""
    return [Port(settings.es_host, settings.es_port, "Elasticsearch", "ES_PORT")]


def is_ready(settings: Settings) -> bool:
    """Whether the cluster is healthy, for those who have the password."""
    password = settings.es_password.get_secret_value()
    return bool(password) and responds(settings.es_url + HEALTH, settings.es_user, password)


def start(settings: Settings, recorder: Recorder, name: str = "elasticsearch") -> None:
    """Elasticsearch's own distribution from Maven Central, on Java, with its password on.

    Args:
        settings: where this node listens, and where the others do.
        recorder: of the process.
        name: of the process and of the folder of its data.
    """
    java = java_home()
    as_user = NOBODY if os.geteuid() == 0 else None  # Elasticsearch refuses to run as root
    home = elasticsearch_home(distribution_folder(settings, as_user))
    state = reachable_folder(recorder.folder, as_user) / name
    config = state / "config"
    for folder in (state, config, state / "data", state / "logs", state / "tmp"):
        folder.mkdir(parents=True, exist_ok=True)
    for file in (home / "config").iterdir():
        if file.is_file() and not (config / file.name).exists():
            shutil.copy2(file, config / file.name)
    (config / "jvm.options.d").mkdir(exist_ok=True)
    (config / "elasticsearch.yml").write_text(configuration(settings, state, name), "utf-8")
    heap = CLUSTER_HEAP if settings.is_cluster else HEAP
    env = {
        "ES_JAVA_HOME": str(java),
        "ES_PATH_CONF": str(config),
        "ES_JAVA_OPTS": f"-Xms{heap} -Xmx{heap}",
        "ES_TMPDIR": str(state / "tmp"),
        "LIBFFI_TMPDIR": str(state / "tmp"),
    }
    _store_password(home, config, env, settings.es_password.get_secret_value())
    if as_user is not None:
        for path in (state, *state.rglob("*")):
            os.chown(path, as_user, as_user)
    recorder.start(name, [str(home / "bin/elasticsearch")], env, state, as_user)


def distribution_folder(settings: Settings, user: int | None) -> Path:
    """Where the distribution is unpacked: SERVICES_DIR, or a stand-in if Elasticsearch could not start from there."""
    folder = reachable_folder(settings.folder(settings.services_dir), user)
    # Java parts the paths of a class path at colons, and Elasticsearch's launcher drops what follows a `#`.
    return stand_in(folder) if set("#:") & set(str(folder)) else folder


def node_names(settings: Settings) -> list[str]:
    """The names of a cluster's nodes, in the order of ES_NODES."""
    return [f"elasticsearch-{number}" for number, _ in enumerate(addresses(settings.es_nodes), 1)]


def configuration(settings: Settings, state: Path, name: str = "one") -> str:
    """The text of elasticsearch.yml for a node of this name that keeps its data and logs under `state`."""
    discovery: dict[str, object] = {"discovery.type": "single-node"}
    if settings.is_cluster:
        seeds = [f"{host}:{port + TRANSPORT}" for host, port in addresses(settings.es_nodes)]
        discovery = {
            "transport.port": settings.es_port + TRANSPORT,
            "discovery.seed_hosts": seeds,
            "cluster.initial_master_nodes": node_names(settings),
        }
    values = {
        "cluster.name": "recsys_pipeline",
        "node.name": name,
        **discovery,
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
    if _holds(config, digest):
        return
    keystore.unlink(missing_ok=True)
    # The nodes of a cluster hold the same one, and the tool takes seconds.
    for other in config.parent.parent.glob("elasticsearch-*/config"):
        if _holds(other, digest):
            shutil.copy2(other / keystore.name, keystore)
            mark.write_text(digest)
            return
    tool = str(home / "bin/elasticsearch-keystore")
    for arguments, entered in ((["create"], ""), (["add", "-x", "bootstrap.password"], password)):
        done = subprocess.run(
            [tool, *arguments], env={**os.environ, **env}, input=entered, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ServiceError(f"{tool} {arguments[0]} failed: {(done.stdout + done.stderr).strip()[-500:]}")
    mark.write_text(digest)


def _holds(config: Path, digest: str) -> bool:
    """Whether the keystore in a configuration's folder holds the password with this digest."""
    mark = config / "password.sha256"
    return (config / "elasticsearch.keystore").exists() and mark.exists() and mark.read_text() == digest
