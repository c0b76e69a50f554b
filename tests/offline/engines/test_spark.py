"""Establishes that Spark makes the very artefacts that one process makes, on a real cluster, workers dying or not."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefact
from data_exchange_center.columns import Column
from data_exchange_center.settings import Settings
from data_exchange_center.table_artefact import Table
from services import spark_cluster
from testkit.shop import write_shop
from testkit.stack import free_ports
from tests.conftest import ROOT, succeed

STAGES = ("offline.preprocess.s1_data_split", "offline.preprocess.s2_term_trans", "offline.rank.s1_feature_engi")
MADE: tuple[Artefact, ...] = (
    *(catalogue.DATASET, catalogue.USERS, catalogue.ITEMS, catalogue.OFFLINE_IMPRESSIONS, catalogue.ONLINE_IMPRESSIONS),
    *(catalogue.HISTORY, catalogue.USER_HISTORY, catalogue.ITEM_GENRES, catalogue.USER_FILTER, catalogue.POPULAR_ITEMS),
    *(catalogue.TRAINING_FRAME, catalogue.USER_FEATURES, catalogue.ITEM_FEATURES, catalogue.FEATURE_META),
)
BY_RATING = {"OFFLINE_IMPRESSIONS", "ONLINE_IMPRESSIONS", "HISTORY", "USER_FILTER", "TRAINING_FRAME"}
PART_ROWS = 700
GIANT, ITEMS, LARGEST_ID = 77, 3000, 2**53 - 1
WAITING = 400.0  # seconds, for a cluster on a busy machine
# The jobs are short: compiling their code well would take longer than they do.
QUICK_START = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}


def write_ratings(folder: Path, seed: int = 3) -> None:
    """Users of one row and of thousands, many ties in time, items rated again, ids that only the ratings hold."""
    rng = np.random.default_rng(seed)
    users = {user: int(rng.integers(1, 60)) for user in rng.choice(10**6, 80, replace=False).tolist()}
    users |= {5: 1, LARGEST_ID: 25, 12: 10, 13: 11, GIANT: ITEMS}
    rows = []
    for user, count in users.items():
        items = rng.choice(ITEMS, count, replace=False) + 1 if user == GIANT else rng.integers(1, ITEMS, count)
        times = 10**9 + rng.integers(0, max(count // 4, 1), count)
        rows += [
            f"{user}::{item}::{rating}::{second}"
            for item, rating, second in zip(items, rng.integers(1, 6, count), times, strict=True)
        ]
    rows += rows[::9]  # the same item again, at the same time
    folder.mkdir()
    (folder / "ratings.dat").write_text("".join(f"{row}\n" for row in rng.permutation(rows)))
    genres = ("Drama", "Comedy|War", "Western|Drama|Action")
    (folder / "movies.dat").write_text("".join(f"{item}::T::{genres[item % 3]}\n" for item in range(1, ITEMS - 99)))
    (folder / "users.dat").write_text("".join(f"{user}::F::25::4::0\n" for user in list(users)[5:] + [999_999_999]))


@dataclass(frozen=True)
class Cluster:
    """A master and two workers."""

    env: dict[str, str]
    run_dir: Path

    def process(self, name: str) -> psutil.Process:
        return psutil.Process(json.loads((self.run_dir / f"{name}.pid.json").read_text())["pid"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    port, page = map(str, free_ports(2))
    own = {"RUN_DIR": str(folder), "SPARK_PORT": port, "SPARK_PAGE_PORT": page, "SPARK_SECRET": "only-for-this-test"}
    own |= {"ENGINE": "spark", "SPARK_MASTER": f"spark://127.0.0.1:{port}", "SPARK_MEMORY": "1g", **QUICK_START}
    try:
        assert f"SPARK_MASTER=spark://127.0.0.1:{port}" in succeed("services", "spark", **own)
        yield Cluster({**own, "SPARK_PART_ROWS": str(PART_ROWS)}, folder)
    finally:
        printed = succeed("services", "stop", **own)
        assert {f"stopped {name}" for name in spark_cluster.names(Settings())} <= set(printed.splitlines())


@contextlib.contextmanager
def started(env: dict[str, str], *stages: str) -> Iterator[subprocess.Popen[str]]:
    """The stages one after the other in one process, whose JVM is started once."""
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name).main()\n"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = [sys.executable, "-c", code, *stages]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, text=True, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def assert_succeeds(process: subprocess.Popen[str]) -> None:
    printed, _ = process.communicate(timeout=WAITING)
    assert process.returncode == 0, printed


def run_stages(env: dict[str, str], *stages: str) -> None:
    with started(env, *stages) as process:
        assert_succeeds(process)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + WAITING
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.05)


def assert_equal(one: Path, other: Path, monkeypatch: pytest.MonkeyPatch, made: tuple[Artefact, ...] = MADE) -> None:
    """Every artefact row by row, type by type, with its digest; and those that Spark writes are in parts."""
    contents = []
    for folder in (one, other):
        monkeypatch.setenv("ARTEFACTS_DIR", str(folder))
        contents.append([(a.load(), a.digest() if isinstance(a, Table) else None) for a in made])  # type: ignore[attr-defined]
    for artefact, (expected, digest), (found, found_digest) in zip(made, *contents, strict=True):
        assert found == expected and digest == found_digest, artefact.path
    for name in (name for name in BY_RATING if getattr(catalogue, name) in made):
        parts = list((other / getattr(catalogue, name).path).glob("*.parquet"))
        assert len(parts) > 1, f"{name} is in one part: no border is tested"


@pytest.fixture(scope="module")
def without_the_secret(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A stage with a guess in place of the secret: Spark tries for a minute, beside the other tests."""
    folder = tmp_path_factory.mktemp("guess")
    write_ratings(folder / "raw")
    env = {**cluster.env, "DATA_DIR": str(folder / "raw"), "ARTEFACTS_DIR": str(folder / "artefacts")}
    with started({**env, "SPARK_SECRET": "a-guess"}, *STAGES[:1]) as process:
        yield process


def test_every_artefact_is_the_same_though_a_worker_is_killed(
    cluster: Cluster, without_the_secret: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ratings(tmp_path / "raw")
    env = {"DATA_DIR": str(tmp_path / "raw")}
    run_stages({**env, "ARTEFACTS_DIR": str(tmp_path / "one")}, *STAGES)
    on_spark = {**env, **cluster.env, "ARTEFACTS_DIR": str(tmp_path / "other")}
    with started(on_spark, *STAGES) as process:
        wait_until((tmp_path / "other" / catalogue.DATASET.path).exists, process)  # the first stage is complete
        worker = cluster.process("spark-worker-1")
        wait_until(lambda: worker.children(recursive=True), process)
        for victim in (worker, *worker.children(recursive=True)):  # the worker first, who would start another executor
            with contextlib.suppress(psutil.NoSuchProcess):  # Python's own workers end with the executor
                victim.kill()
        assert not (tmp_path / "other" / catalogue.HISTORY.path).exists(), "it was killed too late"
        assert_succeeds(process)
    assert_equal(tmp_path / "one", tmp_path / "other", monkeypatch)
    rows = catalogue.OFFLINE_IMPRESSIONS.load([Column.USERID])[Column.USERID].to_numpy()
    assert (rows == GIANT).sum() > 3 * PART_ROWS, "no user is larger than a part"
    assert not (tmp_path / "other/.spark").exists()
    # The verb starts the worker that is missing, and nothing else.
    master = cluster.process("spark-master").pid
    succeed("services", "spark", **cluster.env)
    assert cluster.process("spark-worker-1").is_running() and cluster.process("spark-master").pid == master


def test_a_killed_job_leaves_the_old_artefacts(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an own table with text ids; then it is run to its end, over what the killed one left."""
    write_shop(tmp_path / "shop")
    write_ratings(tmp_path / "raw")
    shop = {"DATA_DIR": str(tmp_path / "shop")}
    run_stages({**shop, "ARTEFACTS_DIR": str(tmp_path / "one")}, *STAGES[:1])
    place = {"ARTEFACTS_DIR": str(tmp_path / "other")}
    run_stages({"DATA_DIR": str(tmp_path / "raw"), **place}, *STAGES[:1])
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path / "other"))
    before = catalogue.OFFLINE_IMPRESSIONS.load()
    with started({**shop, **place, **cluster.env}, *STAGES[:1]) as process:
        wait_until(lambda: list((tmp_path / "other").glob(f"{catalogue.OFFLINE_IMPRESSIONS.path}.*.tmp/*")), process)
        process.kill()
    assert catalogue.OFFLINE_IMPRESSIONS.file.is_file() and catalogue.OFFLINE_IMPRESSIONS.load() == before
    run_stages({**shop, **place, **cluster.env}, *STAGES[:1])
    assert_equal(tmp_path / "one", tmp_path / "other", monkeypatch, MADE[:5])
    left = [path for path in (tmp_path / "other").rglob("*") if path.suffix == ".tmp" or path.name == ".spark"]
    assert not left


def test_who_lacks_the_secret_is_refused(cluster: Cluster, without_the_secret: subprocess.Popen[str]) -> None:
    listed = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not any(cluster.env["SPARK_SECRET"] in command for command in listed)
    printed, _ = without_the_secret.communicate(timeout=WAITING)
    assert without_the_secret.returncode == 1, printed
    told = printed.splitlines()[-1]
    assert "EngineError: no Spark at SPARK_MASTER=" in told and "`make spark`" in told
