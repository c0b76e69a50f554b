"""Establishes that the evaluation measures what it says: the server's lists, known metrics, and shown differences."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import systems
from benchmarks.artefact_callers import IndexOfArtefacts, UsersOfArtefacts
from benchmarks.evaluate import difference, funnel, online_rows, same_order
from benchmarks.list_metrics import Items, accuracy, beyond_accuracy, coverage
from data_exchange_center import catalogue
from offline.metrics import Bootstrap
from online.callers.types import ScoredItem, UserRecall
from tests.conftest import ROOT, Offline, Stack, run_module, succeed


def test_metrics_equal_slow_ones() -> None:
    lists, wanted = {1: [5, 7, 9], 2: [8, 6, 4], 3: []}, {1: [7, 100], 2: [4], 3: [1]}
    found = accuracy(lists, wanted, [1, 2, 3])
    assert found["recall@50"].tolist() == [0.5, 1, 0] and found["hit_rate@10"].tolist() == [1, 1, 0]
    assert found["mrr@10"].tolist() == pytest.approx([1 / 2, 1 / 3, 0])
    discount = [1 / np.log2(place + 1) for place in (1, 2, 3)]
    assert found["ndcg@50"].tolist() == pytest.approx([discount[1] / (discount[0] + discount[1]), discount[2], 0])


def test_diversity_novelty_and_coverage_equal_slow_ones() -> None:
    items = Items(np.array([4, 5, 6]), np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([3, 1, 0]), users=7)
    found = beyond_accuracy({1: [4, 5, 6], 2: [4]}, items, [1, 2])
    pairs = [0, 1 / np.sqrt(2), 1 / np.sqrt(2)]  # cosines of 4-5, 4-6, 5-6
    assert found["diversity@10"][0] == pytest.approx(1 - np.mean(pairs)) and np.isnan(found["diversity@10"][1])
    assert found["novelty@10"][0] == pytest.approx(np.mean(np.log2([8 / 4, 8 / 2, 8 / 1])))
    assert coverage({1: [4, 5], 2: [4]}, 4) == {"coverage@10": 0.5, "coverage@50": 0.5}


def test_a_difference_is_called_one_only_when_it_is() -> None:
    rng, bootstrap = np.random.default_rng(0), Bootstrap(np.arange(400), 0)
    one = rng.normal(size=400)
    assert difference(one, one + rng.normal(scale=0.1, size=400), bootstrap)["verdict"] == "no difference shown"
    assert difference(one + 0.1, one + rng.normal(scale=0.1, size=400), bootstrap)["verdict"] == "higher"
    assert difference(one, one + 0.1, bootstrap)["verdict"] == "lower"


def test_lists_are_the_same_but_for_ties() -> None:
    expected = [ScoredItem(i, s, s, None, ()) for i, s in ((1, 3.0), (2, 2.00001), (3, 2.0))]
    assert same_order([(1, 3.0), (3, 2.00001), (2, 2.0)], expected)
    assert not same_order([(2, 3.0), (1, 2.0), (3, 2.0)], expected)
    assert not same_order([(1, 3.0), (2, 2.0)], expected)


def test_the_funnel_narrows(artefacts: Offline) -> None:
    """One user who wants an item of the list, one that was not recalled, and one that does not exist."""
    listed = [ScoredItem(item, 1.0, 1.0, None, ()) for item in range(1, 13)]
    found = funnel({-1: listed}, {-1: [1, 11, 500, 9999]}, range(1, 1000))
    assert list(found.values()) == [4 / 4, 3 / 4, 2 / 4, 2 / 4, 1 / 4]


def test_the_index_on_artefacts_is_the_exact_search(artefacts: Offline) -> None:
    users, index = UsersOfArtefacts(catalogue.USER_VECTORS), IndexOfArtefacts(catalogue.ITEM_VECTORS)
    user = next(u for u in users.users.values() if not u.terms)
    hits = index.recall(user, len(index.ids))
    products = index.vectors @ np.float32(user.vector)
    unseen = [item for item in range(len(index.ids)) if index.ids[item] not in user.seen]
    nearest = sorted(unseen, key=lambda item: -products[item])[:200]
    assert hits.itemids.tolist() == index.ids[nearest].tolist() and hits.by_vector.all() and not hits.by_term.any()
    by_term = index.recall(UserRecall(("Drama",), (), ()), len(index.ids))
    popular = catalogue.load_table(catalogue.POPULAR_ITEMS)["itemid"].to_pylist()
    genres = dict(zip(*catalogue.load_table(catalogue.ITEMS, ["itemid", "genres"]).to_pydict().values(), strict=True))
    assert by_term.itemids.tolist() == [item for item in popular if "Drama" in genres[item]][:200]


def test_make_evaluate_through_the_server_and_without_one(served: Stack, tmp_path: Path) -> None:
    """The server's lists are those of the artefacts; the recommender beats popularity by half; a report is written."""
    before = {picture: picture.read_bytes() for picture in (ROOT / "pic").glob("*.png")}
    reports = []
    try:
        for arguments in ((), ("--offline",)):
            succeed("benchmarks.evaluate", *arguments, **served.env)
            reports.append(json.loads((Path(served.env["RUN_DIR"]) / "evaluate.json").read_text()))
    finally:
        for picture, content in before.items():
            picture.write_bytes(content)
    online, offline = reports
    assert online["dataset"] == offline["dataset"] == "hundred-thousand"
    compared = online["server_and_artefacts"]
    assert compared["users_compared"] + compared["left_out_for_their_events"] == online["rows"]["users"] > 900
    assert compared["identical"] > 0.95 * compared["users_compared"] and offline["server_and_artefacts"] is None
    for report in reports:
        recalls = {name: of["recall@50"]["value"] for name, of in report["systems"].items()}
        assert recalls["recommender"] > 1.5 * recalls["popularity"]
        assert report["auc"]["DeepFM's logit"]["value"] > report["auc"]["popularity"]["value"]
        shares = list(report["funnel"].values())
        assert shares[0] == 1 and shares == sorted(shares, reverse=True)
        assert all(of["recall@50"]["interval"][0] < recalls[name] for name, of in report["systems"].items())
    assert recalls["recommender"] == pytest.approx(online["systems"]["recommender"]["recall@50"]["value"], abs=0.005)


def test_a_server_of_other_artefacts_is_refused(served: Stack, tmp_path: Path) -> None:
    """Another blend weight in the artefacts than in the loaded model: the lists differ, and the evaluation says so."""
    copy = tmp_path / "artefacts"
    shutil.copytree(served.artefacts, copy, ignore=shutil.ignore_patterns("online"))
    blend = json.loads((copy / catalogue.BLEND.path).read_text())
    (copy / catalogue.BLEND.path).write_text(json.dumps({**blend, "weight": blend["weight"] + 1}))
    done = run_module("benchmarks.evaluate", **{**served.env, "ARTEFACTS_DIR": str(copy)})
    assert done.returncode == 1 and "are not those of the artefacts" in done.stderr, done.stdout + done.stderr


def test_popularity_is_counted_over_all_offline_rows(artefacts: Offline) -> None:
    rows = catalogue.load_table(catalogue.OFFLINE_IMPRESSIONS, ["itemid", "label"]).to_pandas()
    most = rows[rows["label"] == 1]["itemid"].value_counts()
    of = systems.read_catalogue()
    assert most[of.by_popularity[0]] == most.max()
    user = int(online_rows().userid[0])
    known = UsersOfArtefacts(catalogue.USER_VECTORS)
    assert not set(systems.popular([user], of, known)[user]) & set(known.users[user].seen)
