"""Establishes that artefacts are what the catalogue says, and that a stage killed at any time leaves whole ones."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_exchange_center import catalogue
from data_exchange_center.artefact import Artefact, ArtefactError
from data_exchange_center.commit import complete_interrupted_commits, writing
from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.scale import Scale
from testkit.dataset import a_dataset
from tests.conftest import ROOT, run_module, succeed

VECTORS = (catalogue.USER_VECTORS, catalogue.ITEM_VECTORS)
SCALE = Scale(users=120, items=200, ratings=6000, max_userid=120, max_itemid=200)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path / "artefacts"))


def save_vectors(value: float) -> None:
    with writing(VECTORS) as out:
        for artefact in VECTORS:
            out.save(artefact, np.full((3, 2), value))


def files_beside(artefact: Artefact[Any]) -> list[str]:
    return sorted(file.name for file in artefact.file.parent.glob("*"))


def test_what_was_saved_is_loaded() -> None:
    save_vectors(1.5)
    loaded = catalogue.USER_VECTORS.load()
    assert loaded.dtype == np.float32 and (loaded == 1.5).all()


def save_dataset() -> None:
    with writing((catalogue.DATASET,)) as out:
        out.save(catalogue.DATASET, a_dataset())


def test_other_columns_and_types_are_refused() -> None:
    save_dataset()
    with pytest.raises(ArtefactError, match="columns"), writing((catalogue.POPULAR_ITEMS,)) as out:
        out.save(catalogue.POPULAR_ITEMS, pa.table({"positives": [1], "itemid": [2]}))
    with pytest.raises(pa.ArrowInvalid), writing((catalogue.HISTORY,)) as out:
        out.save(catalogue.HISTORY, pa.table(dict.fromkeys(catalogue.HISTORY.present_schema.names, [300])))  # 8 bits
    assert not catalogue.POPULAR_ITEMS.file.exists() and files_beside(catalogue.POPULAR_ITEMS) == ["dataset.json"]


def test_missing_and_damaged_files_name_the_stage() -> None:
    with pytest.raises(ArtefactError, match=r"offline/preprocess/s1_data_split.py"):
        catalogue.USERS.load()
    save_dataset()
    catalogue.USERS.file.write_bytes(b"no parquet")
    with pytest.raises(ArtefactError, match="run offline/preprocess/s1_data_split.py again"):
        catalogue.USERS.load()


def test_a_stage_that_fails_or_forgets_leaves_the_old_files() -> None:
    save_vectors(1)
    with pytest.raises(RuntimeError), writing(VECTORS) as out:
        out.save(catalogue.USER_VECTORS, np.full((3, 2), 2.0))
        raise RuntimeError
    with pytest.raises(ArtefactError, match="did not write"), writing(VECTORS) as out:
        out.save(catalogue.USER_VECTORS, np.full((3, 2), 2.0))
    with pytest.raises(ArtefactError, match="not among the WRITES"), writing(VECTORS[:1]) as out:
        out.save(catalogue.ITEM_VECTORS, np.full((3, 2), 2.0))
    assert all((artefact.load() == 1).all() for artefact in VECTORS)
    assert files_beside(catalogue.USER_VECTORS) == ["item_vectors.npy", "user_vectors.npy"]


KILLED_AT_CALL = """
import os, signal, sys
import numpy as np
from data_exchange_center import catalogue
from data_exchange_center.commit import writing
at, calls, replace = int(sys.argv[1]), 0, os.replace
def dying(source, target):
    global calls
    if calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
    calls += 1
    replace(source, target)
os.replace = dying
vectors = (catalogue.USER_VECTORS, catalogue.ITEM_VECTORS)
with writing(vectors) as out:
    for artefact in vectors:
        out.save(artefact, np.full((3, 2), 2.0))
"""


def test_killed_between_any_two_moves_all_files_are_of_one_run() -> None:
    """The three moves of a commit are the record, then each file; after the last there is nothing left to kill."""
    outcomes = []
    for at in range(4):
        save_vectors(1)
        status = subprocess.run([sys.executable, "-c", KILLED_AT_CALL, str(at)], cwd=ROOT, check=False).returncode
        assert status == (-signal.SIGKILL if at < 3 else 0)
        values = [float(artefact.load()[0, 0]) for artefact in VECTORS]
        assert values[0] == values[1]
        outcomes.append(values[0])
    assert outcomes == [1, 2, 2, 2]
    save_vectors(3)  # the next run clears what the killed ones left
    assert files_beside(catalogue.USER_VECTORS) == ["item_vectors.npy", "user_vectors.npy"]


@pytest.mark.parametrize("stage", ["offline.preprocess.s1_data_split", "offline.preprocess.s2_term_trans"])
def test_a_real_stage_killed_at_any_time_leaves_whole_artefacts(stage: str, tmp_path: Path) -> None:
    """Kills at times spread over the stage's run; each time its artefacts are all the old ones or all the new ones."""
    for name, seed in (("one", 1), ("two", 2)):
        generate(tmp_path / name, SCALE, seed)
    module = __import__(stage, fromlist=["WRITES"])

    def artefacts() -> list[bytes]:
        complete_interrupted_commits()
        return [artefact.file.read_bytes() for artefact in module.WRITES]

    def prepare(name: str) -> None:
        if stage.endswith("s2_term_trans"):
            succeed("offline.preprocess.s1_data_split", DATA_DIR=str(tmp_path / name))

    complete = {}
    for name in ("two", "one"):
        prepare(name)
        began = time.monotonic()
        succeed(stage, DATA_DIR=str(tmp_path / name))
        duration = time.monotonic() - began
        complete[name] = artefacts()
    assert complete["one"] != complete["two"]
    prepare("two")
    draw = random.Random(0)
    killed = 0
    for attempt in range(12):
        # Most kills fall into the last third, where the files are written.
        delay = duration * (draw.random() if attempt % 3 == 0 else 0.6 + 0.4 * draw.random())
        process = subprocess.Popen(
            [sys.executable, "-m", stage],
            cwd=ROOT,
            env={**os.environ, "DATA_DIR": str(tmp_path / "two")},
            stdout=subprocess.DEVNULL,
        )
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        assert artefacts() in (complete["one"], complete["two"])
    assert killed, "every attempt ended before its kill: nothing was tested"
    done = run_module(stage, DATA_DIR=str(tmp_path / "two"))
    assert done.returncode == 0 and artefacts() == complete["two"]
    left = {file.name for file in catalogue.DATASET.file.parent.iterdir()}
    assert not [name for name in left if name.endswith(".tmp")]
