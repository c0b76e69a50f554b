"""How fast the models are fitted by one process and by two of torchrun, with one thread or two.

    python -m benchmarks.speed.training [--stages offline.rank.s2_model_train …]

Runs each stage that fits on a copy of the present artefacts, as one process with two threads, one with one, and two
with one thread each. Counts steps of the training loops alone; all take the same steps on the same global batches, so
that steps a second compare samples a second. Metrics of the fits stand beside them: they must agree.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import machine, measured_on, table, write_report
from data_exchange_center import catalogue
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from offline.__main__ import FITTING_STAGES, OWN_STORE, STAGES, torchrun
from testkit.stack import in_force

LINE = re.compile(r"^EPOCH (.+): (\d+) steps in ([0-9.]+) s$", re.MULTILINE)
# A stage as a script whose epochs are told on stderr.
LOGGED = """
import logging, runpy, sys
logging.basicConfig(format="EPOCH %(message)s")
logging.getLogger("offline.fitting").setLevel(logging.DEBUG)
runpy.run_module(sys.argv[1], run_name="__main__")
"""
# By which the fits of each stage are compared.
COMPARED: dict[str, Callable[[], float]] = {
    "offline.recall.s2_vector_recall": lambda: catalogue.VECTOR_RECALL_METRICS.load().rated.test_auc,
    "offline.recall.s3_sequence_recall": lambda: catalogue.SEQUENCE_RECALL_METRICS.load().test.recall_at_50,
    "offline.rank.s2_model_train": lambda: catalogue.MODEL_METRICS.load().deepfm.test_auc,
    "offline.rank.s3_candidate_ranker": lambda: catalogue.RANKER_METRICS.load().test.ranker.ndcg_at_10,
}


class Shape(NamedTuple):
    """So many processes, with so many threads each."""

    processes: int
    threads: int


SHAPES = (Shape(1, 2), Shape(1, 1), Shape(2, 1))


def measure(stage: str, shape: Shape, artefacts: Path) -> dict[str, Any]:
    """Runs a stage on these artefacts, which it replaces; a row of the report."""
    script = artefacts / "logged_stage.py"
    script.write_text(LOGGED, "utf-8")
    launcher = torchrun(shape.processes) if shape.processes > 1 else [sys.executable]
    command = [*launcher, str(script), stage]
    env = {"ARTEFACTS_DIR": str(artefacts), "OMP_NUM_THREADS": str(shape.threads), "PYTHONPATH": str(ROOT), **OWN_STORE}
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{stage} with {shape}: {done.stdout}{done.stderr}")
    seconds = time.monotonic() - began
    steps: dict[str, float] = defaultdict(float)
    spent: dict[str, float] = defaultdict(float)
    for name, count, took in LINE.findall(done.stderr):
        kind = name.split(",")[0]  # the fits of one tuning are one kind
        steps[kind] += int(count) / shape.processes  # each process tells of the same steps
        spent[kind] += float(took) / shape.processes
    with in_force({"ARTEFACTS_DIR": str(artefacts)}):
        metric = COMPARED[stage]()
    loops = {kind: round(steps[kind] / spent[kind], 2) for kind in steps}
    return {
        **shape._asdict(),
        "seconds": round(seconds, 1),
        "steps_a_second": loops,
        "metric": metric,
    }


def main() -> None:
    """Stage by stage, shape by shape; writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = [stage for stage in STAGES if stage in FITTING_STAGES]
    parser.add_argument("--stages", nargs="+", choices=stages, default=stages)
    arguments, settings = parser.parse_args(), Settings()
    dataset = catalogue.DATASET.load()
    report: dict[str, Any] = {"dataset": dataset.dataset, "seed": dataset.seed, "machine": machine(), "stages": {}}
    with tempfile.TemporaryDirectory(prefix="recsys-training-") as folder:
        artefacts = Path(folder) / "artefacts"
        shutil.copytree(settings.artefacts / "offline", artefacts / "offline")
        for stage in arguments.stages:
            report["stages"][stage] = []
            for shape in SHAPES:
                report["stages"][stage].append(measure(stage, shape, artefacts))
                print(stage, report["stages"][stage][-1], flush=True)
    shown = [
        [
            stage,
            row["processes"],
            row["threads"],
            row["seconds"],
            kind,
            loop,
            loop / rows[0]["steps_a_second"][kind],
            row["metric"],
        ]
        for stage, rows in report["stages"].items()
        for row in rows
        for kind, loop in row["steps_a_second"].items()
    ]
    titles = ["stage", "processes", "threads", "stage, s", "fit", "steps/s", "of one process's", "metric"]
    text = f"{measured_on(report)}\n\n{table(shown, titles)}\n"
    write_report(settings, "training", report, text)
    print(text)


if __name__ == "__main__":
    run_stage(main)
