"""How preprocessing and features grow with the ratings, in one process and on Spark: seconds and memory of each stage.

    python -m benchmarks.speed.engines [--factors 1 10] [--engines pandas spark] [--folder data/large]

Factors count in ML-1M's size. Up to 10 the data are generated, with users and items in proportion; above that they are
copies of those of 10 with other users, since the number of ratings and of users is what counts here. Spark is a
standalone cluster of its own, as `make spark` starts it. Memory is what all processes hold together, pages that several
of them share counted once: the stage and its JVM, and for Spark master, workers, executors and their Python.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from benchmarks.memory import held_mib
from benchmarks.report import machine, table, write_report
from data_exchange_center.columns import Column
from data_exchange_center.measured_process import run_measured
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from offline.preprocess.readers.double_colon import LAYOUT
from offline.preprocess.synthetic.files import generate, write_lines
from offline.preprocess.synthetic.scale import Scale
from services import spark_cluster
from services.stack import recorder_of
from testkit.stack import free_ports, in_force

STAGES = ("offline.preprocess.s1_data_split", "offline.preprocess.s2_term_trans", "offline.rank.s1_feature_engi")
MOST_GENERATED = 10
POLL_SECONDS = 1.0


def scale_of(factor: int) -> Scale:
    """So many times ML-1M's users, items and ratings."""
    one = Scale()
    if factor == 1:
        return one
    users, items = one.users * factor, one.items * factor
    return Scale(users, items, one.ratings * factor, max_userid=users, max_itemid=items)


def generated(folder: Path, factor: int, seed: int) -> Path:
    """The folder, in this one, with the files of so many times ML-1M's ratings, which are made unless they are there.

    Above MOST_GENERATED they are copies of those of MOST_GENERATED, of users with other ids.
    """
    raw = folder / f"generated-{factor}"
    draft = raw.with_suffix(".draft")
    if raw.exists():
        return raw
    shutil.rmtree(draft, ignore_errors=True)
    if factor <= MOST_GENERATED:
        generate(draft, scale_of(factor), seed)
    else:
        copy_users(generated(folder, MOST_GENERATED, seed), draft, factor // MOST_GENERATED)
    draft.rename(raw)
    return raw


def copy_users(once: Path, folder: Path, copies: int) -> None:
    """Writes files with the ratings of `once` so many times, each time of other users."""
    ratings = LAYOUT.read_ratings(once / LAYOUT.ratings)
    whole = ratings.set_column(2, Column.RATING, ratings[Column.RATING].cast(pa.int64()))
    userid = whole[Column.USERID].to_numpy()
    folder.mkdir(parents=True)
    for copy in range(copies):
        columns = whole.set_column(0, Column.USERID, pa.array(userid + copy * scale_of(MOST_GENERATED).max_userid))
        write_lines(folder / LAYOUT.ratings, [column.combine_chunks() for column in columns.columns], append=copy > 0)
    shutil.copy(once / LAYOUT.movies, folder / LAYOUT.movies)


def run_and_watch(module: str, env: Mapping[str, str], beside: list[psutil.Process]) -> dict[str, float]:
    """Runs a stage, and watches it, its descendants and those of `beside` as one.

    Returns:
        seconds, of the clock; cpu_s, of processors, which follows the work where other programs run at the same time;
        peak_mib, the most that all held together.
    """
    began, peak = time.monotonic(), 0.0
    used_before, used = cpu_seconds(families(beside)), dict[psutil.Process, float]()
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, stderr=subprocess.DEVNULL) as process:
        roots = [psutil.Process(process.pid), *beside]
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                watched = families(roots)
                used |= cpu_seconds(watched)  # one that has ended keeps what it was last seen with
                peak = max(peak, held_mib(watched))
            time.sleep(POLL_SECONDS if time.monotonic() - began > 2 * POLL_SECONDS else POLL_SECONDS / 10)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_s": round(sum(used.values()) - sum(used_before.values()), 1),
        "peak_mib": round(peak),
    }


def families(roots: list[psutil.Process]) -> list[psutil.Process]:
    """These processes with all their descendants."""
    return [process for root in roots for process in (root, *root.children(recursive=True))]


def cpu_seconds(processes: list[psutil.Process]) -> dict[psutil.Process, float]:
    """What each process has used of processors by now; one that has ended is left out."""
    used = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used[process] = times.user + times.system
    return used


@contextmanager
def engine_started(engine: str, folder: Path) -> Iterator[tuple[dict[str, str], list[psutil.Process]]]:
    """The settings of an engine, and its processes: none, or those of a Spark cluster of its own."""
    if engine == "pandas":
        yield {"ENGINE": engine}, []
        return
    port, page = map(str, free_ports(2))
    env = {"ENGINE": engine, "SPARK_MASTER": f"spark://127.0.0.1:{port}", "SPARK_PORT": port, "SPARK_PAGE_PORT": page}
    env |= {"RUN_DIR": str(folder / "spark"), "SPARK_SECRET": os.urandom(16).hex()}
    try:
        run_measured([sys.executable, "-m", "services", "spark"], env)
        with in_force(env) as settings:
            recorder = recorder_of(settings)
            processes = [recorder.running(name) for name in spark_cluster.names(settings)]
        yield env, [process for process in processes if process]
    finally:
        run_measured([sys.executable, "-m", "services", "stop"], env)


def measure(raw: Path, engine: str, folder: Path) -> list[dict[str, Any]]:
    """A row for each stage of an engine on these data; the artefacts go into the folder."""
    rows = []
    with engine_started(engine, folder) as (env, beside):
        env |= {"DATA_DIR": str(raw), "ARTEFACTS_DIR": str(folder / engine)}
        for stage in STAGES:
            rows.append({"engine": engine, "stage": stage, **run_and_watch(stage, env, beside)})
            print(
                f"{engine} {stage}: {rows[-1]['seconds']} s, {rows[-1]['cpu_s']} s CPU, {rows[-1]['peak_mib']} MiB",
                flush=True,
            )
    return rows


@contextmanager
def data_in(folder: str | None) -> Iterator[Path]:
    """Where generated data lie: in a folder that is kept for the next run, else in one that is removed again."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="recsys-engines-") as name:
            yield Path(name)
    else:
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield Path(folder).resolve()


def measure_all(
    report: dict[str, Any], raws: Mapping[str, Callable[[], Path]], engines: list[str], settings: Settings
) -> None:
    """Measures each engine on each data set, and writes the report after each of them."""
    report["measured"] = []
    for data, raw in raws.items():
        of_data: dict[str, Any] = {"data": data, "rows": []}
        report["measured"].append(of_data)
        for engine in engines:
            with tempfile.TemporaryDirectory(prefix="recsys-engines-") as folder:
                of_data["rows"] += measure(raw(), engine, Path(folder))
            write(report, settings)


def write(report: Mapping[str, Any], settings: Settings) -> None:
    """Writes the report with its table."""
    shown = [
        [
            of_data["data"],
            row["engine"],
            row["stage"],
            f"{row['seconds']:.1f}",
            f"{row['cpu_s']:.1f}",
            f"{row['peak_mib']:,}",
        ]
        for of_data in report["measured"]
        for row in of_data["rows"]
    ]
    text = table(shown, ["data", "engine", "stage", "s", "s of CPU", "MiB at most, all processes"])
    write_report(settings, "engines", report, text + "\n")


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--engines", nargs="+", choices=["pandas", "spark"], default=["pandas", "spark"])
    parser.add_argument("--own", action="store_true", help="measure the data set of the settings, and no generated one")
    parser.add_argument("--folder", help="where generated data are kept for the next run; removed unless given")
    arguments = parser.parse_args()
    settings = Settings()
    report: dict[str, Any] = {"dataset": settings.dataset_name, "seed": settings.seed, "machine": machine()}
    if arguments.own:
        measure_all(report, {settings.dataset_name: lambda: settings.raw_data}, arguments.engines, settings)
        return
    report["dataset"] = "generated"
    with data_in(arguments.folder) as folder:
        raws = {
            f"generated, {scale_of(1).ratings * factor:,} ratings": partial(generated, folder, factor, settings.seed)
            for factor in arguments.factors
        }
        measure_all(report, raws, arguments.engines, settings)


if __name__ == "__main__":
    run_stage(main)
