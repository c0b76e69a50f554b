"""Establishes that two processes of torchrun fit what one fits, from a share of the rows each, killed or not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from offline import __main__ as runner
from offline import distributed
from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.scale import Scale
from tests.conftest import ROOT, Offline, succeed

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

# Fits each model for a few epochs, and writes what was measured in all of them. Before torchrun has restarted it, the
# second process is killed at the end of DeepFM's third epoch.
FITS = """
import json, os, signal, sys
import numpy as np, pyarrow as pa, torch
from data_exchange_center import catalogue
from data_exchange_center.columns import Column, Split
from data_exchange_center.documents import TowerShape
from offline import distributed
from offline.checkpoints import checkpoints_of
from offline.distributed import gathered
from offline.fitting import Schedule
from offline.metrics import auc
from offline.rank import ranker_selection, s2_model_train, s3_candidate_ranker as s3, training
from offline.recall import fm_training, interactions, s3_sequence_recall, sampled_softmax
from offline.recall.sequence_training import fit_tower, new_tower
from offline.recall.sequences import Sequences
from offline.retrieval_metrics import recall_at

curves, evaluated = {}, {}

KILLED = ("deepfm", 3, 1, "0")  # fit, epoch, process, restart

def schedule(name, metric):
    evaluated[name] = 0
    def evaluate(model):
        evaluated[name] += 1
        if (name, evaluated[name], distributed.rank(), os.environ.get("TORCHELASTIC_RESTART_COUNT")) == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        return metric(model)
    return Schedule(3, evaluate)

def acted_lists():
    # Of the first users alone, who are all in one of two processes: the later rows of valid answer a list each.
    rows = catalogue.OFFLINE_IMPRESSIONS.load().to_pandas()
    rows = rows[rows[Column.USER_INDEX] < rows[Column.USER_INDEX].max() // 3]
    found = []
    for user, own in rows.groupby(Column.USER_INDEX):
        chosen = own.loc[own[Column.SPLIT] == Split.VALID, Column.ITEM_INDEX].tolist()[2:]
        others = [item for item in range(1, 200) if item not in set(own[Column.ITEM_INDEX])][: 3 * len(chosen)]
        for place, item in enumerate(others):
            found.append((user, user, item, 0))
            if place % 3 == 2:
                found.append((user, user, chosen[place // 3], 1))
    return pa.table(list(map(list, zip(*found))), schema=catalogue.ACTED_LISTS.present_schema)

def main():
    dataset, features = catalogue.DATASET.load(), catalogue.FEATURE_META.load()
    parts = interactions.read_parts(dataset)
    train, valid = parts.drawn(1)
    labels = gathered(parts.valid.labels)
    def fm_auc(model):
        return auc(labels, gathered(fm_training.pair_logits(model, parts.valid)))
    def fm_recall(model):
        return recall_at(*model.vectors(), train, valid, (50,))[50]
    curves["rated"] = fm_training.fit_rated(parts.train, 0.02, schedule("rated", fm_auc), 1)[1].curve
    curves["full"] = fm_training.fit_retrieval(parts.train, 0.04, schedule("full", fm_recall), 1)[1].curve
    sampled_softmax.FULL_SOFTMAX_ITEMS = 0
    curves["sampled"] = fm_training.fit_retrieval(parts.train, 0.04, schedule("sampled", fm_recall), 1)[1].curve
    sampled_softmax.FULL_SOFTMAX_ITEMS = 20_000

    sequences = Sequences.of(parts.train)
    tower = new_tower(sequences, TowerShape(), 1)
    def tower_recall(tower):
        return recall_at(*s3_sequence_recall.vectors_after(tower, train), train, valid, (50,))[50]
    curves["tower"] = fit_tower(tower, sequences, schedule("tower", tower_recall), 1).curve

    in_parts, rows = s2_model_train.read_frame(dataset.features, None)
    fitted, held_out = rows.select(in_parts.train), rows.select(in_parts.valid)
    of_held_out = gathered(held_out.labels)
    def deepfm_auc(model):
        return auc(of_held_out, training.score_all(model, held_out))
    chosen = training.HyperParameters(0.015, "dense+side")
    sizes = features.vocabulary_sizes
    curves["deepfm"] = training.fit(fitted, chosen, sizes, schedule("deepfm", deepfm_auc), 1)[1].curve

    ranker_selection.MOST_EPOCHS = 2
    share = distributed.rows_of_this_process(catalogue.OFFLINE_IMPRESSIONS, Column.USERID)
    frame = catalogue.TRAINING_FRAME.load(rows=share)
    others = catalogue.ITEM_FEATURES.load(), acted_lists()
    impressions = s3.Impressions.load(dataset.features, Sequences.of(parts.offline), frame, *others)
    funnel = s3.VALID.funnel(parts.train)
    block = (frame[Column.SPLIT].to_numpy() == Split.VALID) & (parts.offline.users % 5 < 2)
    lists, vectors = s3.lists_of(impressions, funnel, block), torch.from_numpy(funnel.knowledge.embeddings())
    for objective in ranker_selection.OBJECTIVES:
        trial = ranker_selection.try_objective(objective, 0.0, lists, vectors, 1)
        curves[objective] = [*trial.curve, trial.valid.recall_order.ndcg_at_10, trial.valid.lists]
    chosen, tried = ranker_selection.choose_objective(lists, vectors, 1)
    curves["lists acted on"] = [trial.valid.ranker.ndcg_at_10 for trial in tried]
    held = gathered(np.array([len(parts.offline.users), len(rows.labels)]))
    bounds = gathered(np.array([parts.offline.users[0], parts.offline.users[-1]]))
    if distributed.is_first():
        with open(sys.argv[1], "w") as out:
            json.dump({"curves": curves, "evaluated": evaluated, "held": held.tolist(), "users": bounds.tolist()}, out)

with distributed.process_group(), checkpoints_of("offline.rank.s3_candidate_ranker", (catalogue.TRAINING_FRAME,)):
    main()
"""


@pytest.fixture(scope="module")
def fits(offline: Offline, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the script found alone, and in two processes of which one was killed once."""
    folder = tmp_path_factory.mktemp("fits")
    (folder / "fits.py").write_text(FITS)
    shutil.copytree(offline.artefacts, folder / "artefacts", ignore=shutil.ignore_patterns("online"))
    found = {}
    for name, start in (("one", [sys.executable]), ("two", [*TORCHRUN, "--max-restarts", "1"])):
        done = subprocess.run(
            [*start, str(folder / "fits.py"), str(folder / name)],
            env={
                **os.environ,
                **offline.env,
                **runner.OWN_STORE,
                "ARTEFACTS_DIR": str(folder / "artefacts"),
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        found[name] = json.loads((folder / name).read_text())
    assert not list((folder / "artefacts/.checkpoints").rglob("*.pt"))
    return found


@pytest.mark.parametrize(
    "model", ["rated", "full", "sampled", "tower", "deepfm", "listwise", "pointwise", "lists acted on"]
)
def test_two_processes_find_what_one_finds(model: str, fits: dict[str, dict[str, Any]]) -> None:
    """In every epoch, although one of the two was killed in the middle."""
    one, two = (fits[name]["curves"][model] for name in ("one", "two"))
    assert len(one) >= 3 and np.ptp(one) > 1e-3, "a fit that changes nothing would agree with any other"
    assert two == pytest.approx(one, abs=1e-3)


def test_each_process_holds_its_share_of_the_rows(fits: dict[str, dict[str, Any]]) -> None:
    first, second = np.array(fits["two"]["held"]).reshape(2, 2)
    assert (first + second).tolist() == fits["one"]["held"]
    assert (np.abs(first - second) < 0.05 * (first + second)).all()
    begin, end, next_begin, next_end = fits["two"]["users"]
    assert begin < end < next_begin < next_end, "a user's rows are in one process"


def test_after_a_kill_the_fits_go_on_from_the_last_epoch(fits: dict[str, dict[str, Any]]) -> None:
    assert fits["one"]["evaluated"] == dict.fromkeys(["rated", "full", "sampled", "tower", "deepfm"], 3)
    assert fits["two"]["evaluated"] == {"rated": 0, "full": 0, "sampled": 0, "tower": 0, "deepfm": 1}


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_shares_cover_every_row_once_and_keep_users_whole(
    processes: int, artefacts: Offline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "count", lambda: processes)
    monkeypatch.setattr(distributed, "STEP", 3)
    users = catalogue.OFFLINE_IMPRESSIONS.load([Column.USERID])[Column.USERID].to_numpy()
    end = 0
    for process in range(processes):
        monkeypatch.setattr(distributed, "rank", lambda process=process: process)
        share = distributed.rows_of_this_process(catalogue.OFFLINE_IMPRESSIONS, Column.USERID)
        assert share is not None and share[0] == end < share[1]
        end = share[1]
        assert end == len(users) or users[end] != users[end - 1]
    assert end == len(users)


def test_a_stage_in_two_processes_writes_and_prints_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the runner of all stages; before, without its inputs: one sentence, and nothing written."""
    generate(tmp_path / "raw", Scale(100, 150, 3000, 400_000, 900_000), seed=3)
    env = {"DATA_DIR": str(tmp_path / "raw"), "ARTEFACTS_DIR": str(tmp_path / "artefacts"), "TRAINING_PROCESSES": "2"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(runner, "RESTARTS", 1)
    with pytest.raises(SystemExit):
        runner.run("offline.recall.s2_vector_recall")
    assert capfd.readouterr().err.count("error: ") == 1
    assert not list(tmp_path.glob("artefacts/offline/*"))
    succeed("offline.preprocess.s1_data_split", **env)
    runner.run("offline.recall.s2_vector_recall")
    printed = capfd.readouterr().out
    assert printed.count("on test:") == 1 and printed.count("MiB at most") == 1
    assert catalogue.VECTOR_RECALL_METRICS.load().retrieval.recall_at_50 > 0
    assert not list(tmp_path.glob("artefacts/.checkpoints/*"))
