"""A real Spark cluster on this machine: one master and some workers, each a process of its own.

PyPI's package has no start scripts, so the two classes are started as those scripts would. All listen on loopback, and
talk to those alone who have the secret: whoever can submit a job to a master runs code as its owner.
"""

import importlib.util
from pathlib import Path

import requests

from data_exchange_center.settings import ROOT, Settings
from services.processes import Port, Recorder, ServiceError, check_port_free
from services.readiness import response_of

MASTER, WORKER = "spark-master", "spark-worker"
LOOPBACK = "127.0.0.1"
DEPLOY = "org.apache.spark.deploy"
DAEMON_MEMORY = "512m"  # of the master and of each worker, which only keep account of executors


def names(settings: Settings) -> list[str]:
    """The names of the cluster's processes, the master first."""
    return [MASTER, *(f"{WORKER}-{place}" for place in range(1, settings.spark_workers + 1))]


def address(settings: Settings) -> str:
    """What SPARK_MASTER is to be."""
    return f"spark://{LOOPBACK}:{settings.spark_port}"


def ports(settings: Settings) -> list[Port]:
    """Where the master listens."""
    return [
        Port(LOOPBACK, settings.spark_port, "Spark's master", "SPARK_PORT"),
        Port(LOOPBACK, settings.spark_page_port, "the page of Spark's master", "SPARK_PAGE_PORT"),
    ]


def start(settings: Settings, recorder: Recorder) -> None:
    """Starts what is not running of the master and the workers.

    Raises:
        ServiceError: Spark is not installed, or a port is taken.
    """
    found = importlib.util.find_spec("pyspark")
    if not found or not found.origin:
        raise ServiceError("Spark is not installed: `make spark` installs it, and starts the cluster.")
    program = str(Path(found.origin).parent / "bin/spark-class")
    if not recorder.running(MASTER):
        for port in ports(settings):
            check_port_free(*port)
    listening = ["--host", LOOPBACK, "--webui-port"]
    commands = {
        MASTER: ["master.Master", *listening, str(settings.spark_page_port), "--port", str(settings.spark_port)],
        **{
            worker: ["worker.Worker", *listening, "0", "--cores", "1", "--memory", settings.spark_memory]
            + ["--work-dir", str(recorder.folder / worker), address(settings)]
            for worker in names(settings)[1:]
        },
    }
    for name, (kind, *options) in commands.items():
        if not recorder.running(name):
            (recorder.folder / name).mkdir(parents=True, exist_ok=True)
            recorder.start(name, [program, f"{DEPLOY}.{kind}", *options], _environment(settings), ROOT)


def _environment(settings: Settings) -> dict[str, str]:
    # The secret goes by the environment, which no other user of the machine can read, and not by the command line.
    return {
        "SPARK_LOCAL_IP": LOOPBACK,
        "SPARK_DAEMON_MEMORY": DAEMON_MEMORY,
        "SPARK_DAEMON_JAVA_OPTS": "-Dspark.authenticate=true -Dspark.master.rest.enabled=false",
        "_SPARK_AUTH_SECRET": settings.spark_secret.get_secret_value(),
    }


def is_ready(settings: Settings) -> bool:
    """Whether the master responds and has all its workers."""
    page = response_of(f"http://{LOOPBACK}:{settings.spark_page_port}/json/")
    try:
        workers = page.json()["workers"] if page else []
    except requests.JSONDecodeError:
        return False
    return sum(worker["state"] == "ALIVE" for worker in workers) >= settings.spark_workers
