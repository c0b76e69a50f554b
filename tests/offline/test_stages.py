"""Establishes what the offline half gives: metrics in their order, and stages that run in every way."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_exchange_center import catalogue
from data_exchange_center.columns import Split
from data_exchange_center.user_state import LIKED_MINIMUM
from offline.__main__ import STAGES
from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.scale import Scale
from tests.conftest import ROOT, SCALE, Offline


def metrics(offline: Offline, name: str) -> dict:
    content: dict = json.loads((offline.artefacts / "offline" / name).read_text())
    assert content["dataset"] == "hundred-thousand" and content["seed"]
    return content


def test_auc_rises_from_popularity_to_deepfm(offline: Offline) -> None:
    m = metrics(offline, "rank/model_metrics.json")
    names = ("popularity", "logistic_regression", "fm", "deepfm")
    aucs = [m[name]["test_auc"] for name in names]
    # A converged logistic regression and the FM are too close to tell apart at this size: which of them is ahead is
    # left to the interval of their difference. The order of all else holds.
    popularity, *ids_alone, deepfm = aucs
    assert popularity < min(ids_alone) and max(ids_alone) < deepfm and len(set(aucs)) == 4
    assert m["fm"]["test_auc_gain_interval"][1] > 0 and m["logistic_regression"]["test_auc_gain_interval"][0] > 0
    assert all(0 < m[name]["log_loss"] < 0.693 for name in names)
    lows, highs = zip(*(m[name]["test_auc_interval"] for name in names), strict=True)
    assert all(low < auc < high for low, auc, high in zip(lows, aucs, highs, strict=True))
    assert highs[0] < lows[-1] and m["deepfm"]["test_auc_gain_interval"][0] > 0


def test_the_served_probabilities_can_be_believed(offline: Offline) -> None:
    """On test, with the model that has not seen it; the served one has the same calibration."""
    deepfm = metrics(offline, "rank/model_metrics.json")["deepfm"]
    assert deepfm["calibration_error"] < 0.02
    assert sum(deepfm["reliability"]["rows"]) == metrics(offline, "rank/model_metrics.json")["rows"]["test"]


def test_what_is_served_knows_all_offline_rows(artefacts: Offline) -> None:
    """And what is measured on test does not: an item that only test rows hold is unknown to it."""
    table = catalogue.OFFLINE_IMPRESSIONS.load()
    split, item = table["split"].to_numpy(), table["item_index"].to_numpy()
    assert item.min() > 0
    only_test = np.setdiff1d(item[split == Split.TEST], item[split != Split.TEST])
    assert len(only_test)
    tables = {
        artefact: artefact.load()["groups.16.table"]
        for artefact in (catalogue.DEEPFM_MODEL, catalogue.MEASURED_DEEPFM_MODEL)
    }
    offset = catalogue.DATASET.load().id_sizes["userid"]
    rows = {artefact: weights[offset + only_test] for artefact, weights in tables.items()}
    assert not rows[catalogue.MEASURED_DEEPFM_MODEL].any() and rows[catalogue.DEEPFM_MODEL].any(1).all()


def test_the_exported_vectors_recall_more_than_popularity(offline: Offline) -> None:
    m = metrics(offline, "recall/vector_recall_metrics.json")
    for k in (50, 200):
        assert m["retrieval"][f"recall@{k}"] > m["popularity"][f"recall@{k}"] > m["rated"][f"recall@{k}"]
    assert m["retrieval"]["recall@50"] > 1.5 * m["popularity"]["recall@50"]
    assert m["rated"]["test_auc"] > m["retrieval"]["test_auc"] and m["rated"]["valid_auc"] > 0.7
    assert 0 < metrics(offline, "recall/term_recall_metrics.json")["recall@200"] < 1


def test_every_choice_was_the_best_on_valid(offline: Offline) -> None:
    vectors, models = (metrics(offline, n) for n in ("recall/vector_recall_metrics.json", "rank/model_metrics.json"))
    for part in ("rated", "retrieval"):
        best = max(vectors[part]["tried"], key=lambda trial: trial["valid"])
        assert vectors[part]["l2"] == best["params"]["l2"]
        assert best["valid"] == pytest.approx(max(best["curve"]), abs=3e-4) and not best["pruned"]
        assert len(vectors[part]["tried"]) == 3
    deepfm = models["deepfm"]
    best = max(deepfm["tried"], key=lambda trial: trial["valid"])
    assert deepfm["deep_inputs"] == best["params"]["deep_inputs"] and not best["pruned"]
    assert deepfm["l2"] == pytest.approx(best["params"]["l2_of_fm"] * vectors["rated"]["l2"])
    assert deepfm["valid_auc"] == pytest.approx(best["valid"], abs=3e-4)
    tower = metrics(offline, "recall/sequence_recall_metrics.json")
    assert max(tower["curve"]) - tower["curve"][tower["epochs"] - 1] < 2e-4
    ranker = metrics(offline, "rank/ranker_metrics.json")
    best = max(ranker["tried"], key=lambda trial: trial["valid"]["ranker"]["ndcg@10"])
    assert (ranker["objective"], ranker["epochs"]) == (best["objective"], best["epochs"])
    assert {trial["objective"] for trial in ranker["tried"]} == {"listwise", "pointwise"}


def test_each_stage_finds_more_than_the_one_before(offline: Offline) -> None:
    """Popularity, FM, sequences: recall of positives of test; recall's order, ranker: NDCG@10 of the same lists."""
    vectors = metrics(offline, "recall/vector_recall_metrics.json")
    tower = metrics(offline, "recall/sequence_recall_metrics.json")
    assert tower["test"]["recall@50"] > 1.2 * vectors["popularity"]["recall@50"]
    assert tower["test"]["recall@50"] > vectors["retrieval"]["recall@50"] * 0.97
    ranker = metrics(offline, "rank/ranker_metrics.json")
    for comparison in (ranker["test"], *(trial["valid"] for trial in ranker["tried"])):
        assert comparison["gain_ndcg@10_interval"][0] > 0
        assert comparison["ranker"]["ndcg@10"] > 1.05 * comparison["recall_order"]["ndcg@10"]
        assert comparison["recall@200"] > comparison["ranker"]["recall@50"] > comparison["recall_order"]["recall@50"]


def test_the_splits_hold_the_rows_they_should(artefacts: Offline) -> None:
    rows = catalogue.DATASET.load().rows
    assert rows.ratings == SCALE.ratings == rows.online + rows.train + rows.test == rows.positives + rows.negatives
    assert rows.online == 10 * SCALE.users  # everyone has at least 20
    table = catalogue.OFFLINE_IMPRESSIONS.load()
    split, seconds, user = (table[n].to_numpy() for n in ("split", "timestamp", "userid"))
    same_user = np.diff(user) == 0
    assert (np.diff(seconds)[same_user] >= 0).all() and (np.diff(split.astype(int))[same_user] >= 0).all()
    assert set(split.tolist()) == {Split.TRAIN, Split.VALID, Split.TEST}


def test_terms_and_filters_follow_from_the_impressions(artefacts: Offline) -> None:
    """Some users, counted by hand from the raw columns."""
    table = catalogue.OFFLINE_IMPRESSIONS.load().to_pandas()
    genres = dict(zip(*catalogue.ITEMS.load(["itemid", "genres"]).to_pydict().values(), strict=True))
    terms = dict(zip(*catalogue.USER_TERM.load().to_pydict().values(), strict=True))
    seen = dict(zip(*catalogue.USER_FILTER.load().to_pydict().values(), strict=True))
    assert list(terms) == list(seen) == sorted(table["userid"].unique())
    for user in list(terms)[::50]:
        mine = table[table["userid"] == user]
        last = mine.tail(10)
        liked = [genre for item in last[last["rating"] > 3]["itemid"] for genre in genres[item]]
        assert set(terms[user]) == {genre for genre in liked if liked.count(genre) >= LIKED_MINIMUM}
        assert seen[user] == sorted(set(mine["itemid"]))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """100 users, ids with gaps, one user with 10 ratings and one known by users.dat alone; no artefacts yet."""
    folder = tmp_path_factory.mktemp("tiny")
    generate(folder / "raw", Scale(100, 150, 3000, 400_000, 900_000), seed=3)
    with (folder / "raw/ratings.dat").open("a") as ratings:
        movies = (folder / "raw/movies.dat").read_text("iso-8859-1").splitlines()[:10]
        ratings.writelines(f"500000::{movie.split('::')[0]}::5::{second}\n" for second, movie in enumerate(movies))
    with (folder / "raw/users.dat").open("a") as users:
        users.write("500000::F::25::3::00501\n600000::M::99::3::00501\n")
    return {"DATA_DIR": str(folder / "raw"), "ARTEFACTS_DIR": str(folder / "artefacts")}


@pytest.fixture(scope="module")
def tiny_runs(tiny: dict[str, str]) -> dict[str, subprocess.CompletedProcess[str]]:
    """Each stage, run once as a script from its own folder, in order."""
    runs = {}
    for stage in STAGES:
        folder, name = stage.replace(".", "/").rsplit("/", 1)
        runs[stage] = subprocess.run(
            [sys.executable, f"{name}.py"],
            cwd=ROOT / folder,
            env={**os.environ, **tiny},
            capture_output=True,
            text=True,
            check=False,
        )
    return runs


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_runs_as_a_script_from_its_own_folder(
    stage: str, tiny_runs: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    done = tiny_runs[stage]
    assert done.returncode == 0 and done.stdout, done.stdout + done.stderr


RECORDING = """
import json, runpy, sys
from data_exchange_center.artefact import Artefact
from data_exchange_center.commit import Writer, written_by
loaded, saved = set(), set()
existing_file, save = Artefact.existing_file, Writer.save
def recorded_file(artefact):
    # And not `digest`, by which a table's rows are compared; nor what the stage itself has just written.
    if sys._getframe(1).f_code.co_name == "load" and artefact not in written_by.get():
        loaded.add(artefact.path)
    return existing_file(artefact)
def recorded_save(writer, artefact, content):
    saved.add(artefact.path)
    save(writer, artefact, content)
Artefact.existing_file, Writer.save = recorded_file, recorded_save
runpy.run_module(sys.argv[1], run_name="__main__")
print(json.dumps([sorted(loaded), sorted(saved)]))
"""


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_loads_and_saves_exactly_what_it_declares(
    stage: str, tiny: dict[str, str], tiny_runs: dict[str, object], tmp_path: Path
) -> None:
    """Watched while it runs; test_structure.py reads it from the source, that of the loaders too.

    What it saves is the same as before to the byte, but for the state dicts, whose archives hold their file's name.
    """
    shutil.copytree(tiny["ARTEFACTS_DIR"], tmp_path / "copy")
    done = subprocess.run(
        [sys.executable, "-c", RECORDING, stage],
        cwd=ROOT,
        env={**os.environ, **tiny, "ARTEFACTS_DIR": str(tmp_path / "copy")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    module = importlib.import_module(stage)
    loaded, saved = json.loads(done.stdout.splitlines()[-1])
    assert loaded == sorted(artefact.path for artefact in module.READS)
    assert saved == sorted(artefact.path for artefact in module.WRITES)
    for path in saved:
        again, before = tmp_path / "copy" / path, Path(tiny["ARTEFACTS_DIR"]) / path
        assert again.read_bytes() == before.read_bytes(), path


def test_users_with_few_or_no_ratings_are_there_as_unknown(
    tiny: dict[str, str], tiny_runs: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTEFACTS_DIR", tiny["ARTEFACTS_DIR"])
    users = catalogue.USER_FEATURES.load().to_pandas().set_index("userid")
    assert users.loc[500000, ["user_index", "gender", "age", "occupation"]].tolist() == [0, 2, 3, 4]
    assert users.loc[600000, ["user_index", "gender", "age", "occupation"]].tolist() == [0, 1, 0, 4]  # age 99: unknown
    assert users.loc[[500000, 600000]].iloc[:, 4:].to_numpy().sum() == 0
    assert len(catalogue.ONLINE_IMPRESSIONS.load().to_pandas().query("userid == 500000")) == 10
    assert 500000 not in catalogue.USER_TERM.load()["userid"].to_pylist()
