"""Elasticsearch's own distribution, fetched with Maven from Maven Central, and the Java that runs it."""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

from services.processes import ServiceError

ELASTICSEARCH_VERSION = "8.19.21"
ELASTICSEARCH_ARTEFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{ELASTICSEARCH_VERSION}:zip"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
JAVA_AT_LEAST = 17


def java_home() -> Path:
    """The home of a Java that is new enough.

    Raises:
        ServiceError: there is none; the message says how to install one.
    """
    remedy = "Install a Java 17 runtime (Debian: apt install openjdk-17-jre-headless) or use SERVICES=docker."
    configured = os.environ.get("JAVA_HOME")
    java = Path(configured) / "bin/java" if configured else Path(shutil.which("java") or "java")
    try:
        printed = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=True).stderr
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise ServiceError(
            f"Elasticsearch needs Java {JAVA_AT_LEAST}, and `{java} -version` fails. {remedy}"
        ) from error
    version = re.search(r'version "(\d+)', printed)
    if not version or int(version[1]) < JAVA_AT_LEAST:
        raise ServiceError(
            f"Elasticsearch needs Java {JAVA_AT_LEAST} or newer; {java} is {printed.splitlines()[0]}. {remedy}"
        )
    return java.resolve().parent.parent


def elasticsearch_home(base: Path) -> Path:
    """The unpacked distribution under `base`; fetched with Maven when it is not there yet.

    Raises:
        ServiceError: Maven is missing, or cannot fetch it.
    """
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
