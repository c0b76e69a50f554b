"""Establishes what the offline half gives: metrics in their order, and stages that run in every way."""

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
from data_exchange_center.genre_history import LIKED_MINIMUM
from offline.__main__ import STAGES
from offline.preprocess.synthetic import Scale, generate
from tests.conftest import ROOT, SCALE, Offline, succeed


def metrics(offline: Offline, name: str) -> dict:
    content: dict = json.loads((offline.artefacts / "offline" / name).read_text())
    assert content["dataset"] == "hundred-thousand" and content["seed"] and content["rows"]
    return content


def test_auc_rises_from_popularity_to_deepfm(offline: Offline) -> None:
    m = metrics(offline, "rank/model_metrics.json")
    names = ("popularity", "logistic_regression", "fm", "deepfm")
    aucs = [m[name]["test_auc"] for name in names]
    assert aucs == sorted(aucs) and len(set(aucs)) == 4
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
    table = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS)
    split, item = table["split"].to_numpy(), table["item_index"].to_numpy()
    assert item.min() > 0
    only_test = np.setdiff1d(item[split == Split.TEST], item[split != Split.TEST])
    assert len(only_test)
    tables = {
        artefact: catalogue.load_state(artefact)["groups.16.table"]
        for artefact in (catalogue.DEEPFM_MODEL, catalogue.MEASURED_DEEPFM_MODEL)
    }
    offset = catalogue.load_json(catalogue.DATASET)["id_sizes"]["userid"]
    rows = {artefact: weights[offset + only_test] for artefact, weights in tables.items()}
    assert not rows[catalogue.MEASURED_DEEPFM_MODEL].any() and rows[catalogue.DEEPFM_MODEL].any(1).all()


def test_the_same_seed_gives_the_same_bytes(offline: Offline, tmp_path: Path) -> None:
    """Of metrics, on the same machine: both training stages once more."""
    env = {**offline.env, "ARTEFACTS_DIR": str(tmp_path / "copy")}
    shutil.copytree(offline.artefacts, env["ARTEFACTS_DIR"], ignore=shutil.ignore_patterns("online"))
    written = [a.path for a in catalogue.ARTEFACTS if a.path.endswith("metrics.json") or a == catalogue.BLEND]
    before = {path: (tmp_path / "copy" / path).read_bytes() for path in written}
    for stage in ("offline.recall.s2_vector_recall", "offline.rank.s2_model_train"):
        succeed(stage, **env)
    assert {path: (tmp_path / "copy" / path).read_bytes() for path in written} == before


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
        best = max(vectors[part]["tried"], key=lambda row: row["valid"])
        assert vectors[part]["l2"] == best["l2"] and best["valid"] == pytest.approx(max(best["curve"]), abs=3e-4)
        assert len(vectors[part]["tried"]) == 3
    deepfm = models["deepfm"]
    best = max(deepfm["tried"], key=lambda row: row["valid"])
    assert deepfm["deep_inputs"] == best["deep_inputs"] and not best["given_up"]
    assert deepfm["l2"] == pytest.approx(best["l2_of_fm"] * vectors["rated"]["l2"])
    assert deepfm["valid_auc"] == pytest.approx(best["valid"], abs=3e-4)
    blend = json.loads((offline.artefacts / "offline/rank/blend.json").read_text())
    assert blend["weight"] == max(blend["tried"], key=lambda row: row["ndcg@50"])["weight"]


def test_the_splits_hold_the_rows_they_should(artefacts: Offline) -> None:
    rows = catalogue.load_json(catalogue.DATASET)["rows"]
    assert rows["ratings"] == SCALE.ratings == rows["online"] + rows["train"] + rows["test"]
    assert rows["online"] == 10 * SCALE.users  # everyone has at least 20
    table = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS)
    split, seconds, user = (table[n].to_numpy() for n in ("split", "timestamp", "userid"))
    same_user = np.diff(user) == 0
    assert (np.diff(seconds)[same_user] >= 0).all() and (np.diff(split.astype(int))[same_user] >= 0).all()
    assert set(split.tolist()) == {Split.TRAIN, Split.VALID, Split.TEST}


def test_terms_and_filters_follow_from_the_impressions(artefacts: Offline) -> None:
    """Some users, counted by hand from the raw columns."""
    table = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS).to_pandas()
    genres = dict(zip(*catalogue.load_table(catalogue.ITEMS, ["itemid", "genres"]).to_pydict().values(), strict=True))
    terms = dict(zip(*catalogue.load_table(catalogue.USER_TERM).to_pydict().values(), strict=True))
    seen = dict(zip(*catalogue.load_table(catalogue.USER_FILTER).to_pydict().values(), strict=True))
    assert list(terms) == list(seen) == sorted(table["userid"].unique())
    for user in list(terms)[::50]:
        mine = table[table["userid"] == user]
        last = mine.tail(10)
        liked = [genre for item in last[last["rating"] > 3]["itemid"] for genre in genres[item]]
        assert set(terms[user]) == {genre for genre in liked if liked.count(genre) >= LIKED_MINIMUM}
        assert seen[user] == sorted(set(mine["itemid"]))


def test_a_second_run_redoes_only_what_changed(offline: Offline, tmp_path: Path) -> None:
    env = {**offline.env, "ARTEFACTS_DIR": str(tmp_path / "copy")}
    shutil.copytree(offline.artefacts, env["ARTEFACTS_DIR"], ignore=shutil.ignore_patterns("online"))
    assert succeed("offline", **env).count(": unchanged") == len(STAGES)
    (tmp_path / "copy" / catalogue.USER_TERM.path).unlink()
    printed = succeed("offline", **env)
    assert printed.count(": unchanged") == len(STAGES) - 1 and "offline.recall.s1_term_recall:\n" in printed


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """100 users, ids with gaps, one user with 10 ratings and one known by users.dat alone."""
    folder = tmp_path_factory.mktemp("tiny")
    generate(folder / "raw", Scale(100, 150, 3000, 400_000, 900_000), seed=3)
    with (folder / "raw/ratings.dat").open("a") as ratings:
        movie = (folder / "raw/movies.dat").read_text("iso-8859-1").split("::")[0]
        ratings.writelines(f"500000::{movie}::5::{second}\n" for second in range(10))
    with (folder / "raw/users.dat").open("a") as users:
        users.write("500000::F::25::3::00501\n600000::M::99::3::00501\n")
    return {"DATA_DIR": str(folder / "raw"), "ARTEFACTS_DIR": str(folder / "artefacts")}


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_runs_as_a_script_from_its_own_folder(stage: str, tiny: dict[str, str]) -> None:
    folder, name = stage.replace(".", "/").rsplit("/", 1)
    done = subprocess.run(
        [sys.executable, f"{name}.py"],
        cwd=ROOT / folder,
        env={**os.environ, **tiny},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout, done.stdout + done.stderr


def test_users_with_few_or_no_ratings_are_there_as_unknown(
    tiny: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs after the stages above."""
    monkeypatch.setenv("ARTEFACTS_DIR", tiny["ARTEFACTS_DIR"])
    users = catalogue.load_table(catalogue.USER_FEATURES).to_pandas().set_index("userid")
    assert users.loc[500000, ["user_index", "gender", "age", "occupation"]].tolist() == [0, 2, 3, 4]
    assert users.loc[600000, ["user_index", "gender", "age", "occupation"]].tolist() == [0, 1, 0, 4]  # age 99: unknown
    assert users.loc[[500000, 600000]].iloc[:, 4:].to_numpy().sum() == 0
    assert len(catalogue.load_table(catalogue.ONLINE_IMPRESSIONS).to_pandas().query("userid == 500000")) == 10
    assert 500000 not in catalogue.load_table(catalogue.USER_TERM)["userid"].to_pylist()
