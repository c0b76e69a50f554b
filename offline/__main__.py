"""Runs all stages of offline/ in order, and only those whose code, settings, inputs or outputs changed.

    python -m offline            (or: make offline)

After each stage a record of what its result followed from is kept beside the artefacts; a stage is run again when the
present state differs from its record.
"""

import errno
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from data_exchange_center.artefact import Artefacts
from data_exchange_center.commit import complete_interrupted_commits
from data_exchange_center.digests import file_digest
from data_exchange_center.measured_process import run_measured
from data_exchange_center.settings import ROOT, Settings
from data_exchange_center.stage import run_stage
from offline.preprocess import movielens
from offline.preprocess.readers.layout import DataSource
from offline.sources import sources_of

STAGES = (
    "offline.preprocess.s1_data_split",
    "offline.preprocess.s2_term_trans",
    "offline.recall.s1_term_recall",
    "offline.recall.s2_vector_recall",
    "offline.recall.s3_sequence_recall",
    "offline.recall.s4_similar_items",
    "offline.rank.s1_feature_engi",
    "offline.rank.s2_model_train",
    "offline.rank.s3_candidate_ranker",
)

FITTING_STAGES = {
    "offline.recall.s2_vector_recall",
    "offline.recall.s3_sequence_recall",
    "offline.rank.s2_model_train",
    "offline.rank.s3_candidate_ranker",
}
RESTARTS = 3  # of a stage's processes together, after one of them was killed
# Otherwise processes that were started again look for each other at the addresses of those that were killed:
# https://github.com/pytorch/pytorch/issues/135712.
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}

State = dict[str, Any]

LEAST_ROOM = 16 << 20  # bytes that even the smallest data set's artefacts take
UNPACKED = 4  # bytes of text in a byte of parquet, about


def digests(artefacts: Artefacts) -> dict[str, str | None]:
    """The digest of each artefact by its path, None for one that is missing."""
    complete_interrupted_commits()
    return {a.path: file_digest(a.file) if a.file.exists() else None for a in artefacts}


def inputs_of(name: str, reads: Artefacts, settings: Settings) -> State:
    """All that a stage's result follows from: its code and what it reads.

    The first stage reads no artefact, but the settings and the raw data; these are large, so that their sizes and times
    stand for them. Later stages take the settings from the first one's artefacts.
    """
    read: State = {**digests(reads)}
    if not reads:
        stats = {file: file.stat() for file in movielens.raw_data(settings).files}
        read = {recorded_name(file, settings): [s.st_size, s.st_mtime_ns] for file, s in stats.items()}
        read["settings"] = [settings.dataset_name, settings.seed]
    return {
        "code": {str(file.relative_to(ROOT)): file_digest(file) for file in sorted(sources_of(name))},
        "reads": read,
    }


def recorded_name(file: Path, settings: Settings) -> str:
    """As a record names it: what lies among the artefacts keeps its name where all of them are moved."""
    return str(file.relative_to(settings.artefacts) if file.is_relative_to(settings.artefacts) else file)


def recorded(record: Path) -> State | None:
    """The state that a record holds; None where there is none, or one that a killed run left unfinished."""
    try:
        state: State = json.loads(record.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return state


def torchrun(processes: int) -> list[str]:
    """What stands before a script, or -m and a module, that so many processes run together."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, "--nproc-per-node", str(processes), "--max-restarts", str(RESTARTS)]


def command(name: str, processes: int) -> tuple[list[str], dict[str, str]]:
    """How a stage is run, and what is added to the environment; by torchrun, where it fits in several processes."""
    if processes == 1 or name not in FITTING_STAGES:
        return [sys.executable, "-m", name], {}
    threads = str(
        max((os.cpu_count() or 1) // processes, 1)
    )  # torchrun's own choice is 1, however many cores there are
    return [*torchrun(processes), "-m", name], {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        **OWN_STORE,
    }


def run(name: str) -> None:
    """Runs a stage as a script of its own, and prints how long it took and the most memory that a process held."""
    try:
        used = run_measured(*command(name, Settings().training_processes))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the stage has printed why
    print(f"  {used.seconds:.1f} s, {used.peak_mib:.0f} MiB at most", flush=True)


def check_room(data: DataSource, folder: Path) -> None:
    """Checks that the artefacts of these data can be written into the folder, before any work is done for them.

    Raises:
        OSError: the folder is read-only, or has less room than the raw data and LEAST_ROOM.
    """
    with tempfile.NamedTemporaryFile(dir=folder):
        pass
    sizes = (file.stat().st_size * (UNPACKED if file.suffix.lower() == ".parquet" else 1) for file in data.files)
    needed = LEAST_ROOM + sum(sizes)
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def main() -> None:
    """Goes through the stages in order and runs those whose state differs from their record."""
    settings = Settings()
    data = movielens.raw_data(settings)
    records = settings.artefacts / ".stages"
    records.mkdir(parents=True, exist_ok=True)
    has_room = False
    for name in STAGES:
        stage = importlib.import_module(name)
        record = records / f"{name}.json"
        # Taken before the run: a source that is edited while the stage runs makes it run again the next time.
        inputs = inputs_of(name, stage.READS, settings)
        if recorded(record) == {**inputs, "writes": digests(stage.WRITES)}:
            print(f"{name}: unchanged", flush=True)
            continue
        if not has_room:
            check_room(data, settings.artefacts)
            has_room = True
        print(f"{name}:", flush=True)
        run(name)
        draft = record.with_suffix(".draft")
        draft.write_text(json.dumps({**inputs, "writes": digests(stage.WRITES)}, indent=1))
        os.replace(draft, record)


if __name__ == "__main__":
    run_stage(main)
