"""Establishes that the evaluation measures what it says: the server's lists, known metrics, and shown differences."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.quality import charts, systems
from benchmarks.quality.artefact_backends import ArtefactRecallIndex, ArtefactRecallStore
from benchmarks.quality.comparison import difference
from benchmarks.quality.evaluate import funnel
from benchmarks.quality.item_catalogue import ItemCatalogue
from benchmarks.quality.list_metrics import accuracy, beyond_accuracy, coverage
from benchmarks.quality.online_rows import OnlineRows
from benchmarks.quality.replay import ReplayError, check_served
from benchmarks.quality.server_lists import same_list
from data_exchange_center import catalogue
from data_exchange_center.settings import Settings
from offline.metrics import Bootstrap
from online.callers.types import ScoredItem, UserRecall
from testkit.stack import free_ports
from tests.conftest import ROOT, Offline, Stack, run_module, succeed

EVALUATION_CHARTS = {
    f"{name}.png" for name in ("learning_curves", "auc", "stages", "evaluation", "funnel", "calibration")
}


def test_metrics_equal_slow_ones() -> None:
    lists, relevant = {1: [5, 7, 9], 2: [8, 6, 4], 3: []}, {1: [7, 100], 2: [4], 3: [1]}
    found = accuracy(lists, relevant, [1, 2, 3])
    assert found["recall@50"].tolist() == [0.5, 1, 0] and found["hit_rate@10"].tolist() == [1, 1, 0]
    assert found["mrr@10"].tolist() == pytest.approx([1 / 2, 1 / 3, 0])
    discount = [1 / np.log2(place + 1) for place in (1, 2, 3)]
    assert found["ndcg@50"].tolist() == pytest.approx([discount[1] / (discount[0] + discount[1]), discount[2], 0])


def test_diversity_novelty_and_coverage_equal_slow_ones() -> None:
    flags, raters = np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([3, 1, 0])
    items = ItemCatalogue(np.array([4, 5, 6]), flags, raters, positives=np.zeros(3, np.int64), users=7)
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


def scored(*items: tuple[int, float, float]) -> list[ScoredItem]:
    """(item, score, recall score) each."""
    return [ScoredItem(itemid, score, recall, None, ()) for itemid, score, recall in items]


def test_lists_are_the_same_but_for_ties() -> None:
    expected = scored((1, 3.0, 5.0), (2, 2.00001, 4.0), (3, 2.0, 3.0))
    assert same_list(scored((1, 3.0, 5.0), (3, 2.00001, 3.0), (2, 2.0, 4.0)), expected)
    assert not same_list(scored((2, 3.0, 4.0), (1, 2.0, 5.0), (3, 2.0, 3.0)), expected)
    assert not same_list(scored((1, 3.0, 5.0), (2, 2.0, 4.0)), expected)
    # Item 9 was found in the place of item 3, which it ties with in recall; its own score is another item's.
    assert same_list(scored((9, 3.5, 3.00001), (1, 3.0, 5.0), (2, 2.0, 4.0)), expected)
    assert not same_list(scored((9, 3.5, 3.1), (1, 3.0, 5.0), (2, 2.0, 4.0)), expected)
    assert not same_list(scored((9, 3.5, 3.0), (2, 3.0, 4.0), (1, 2.0, 5.0)), expected)


def test_the_funnel_narrows(artefacts: Offline) -> None:
    """One user with positives in the list, one that was not recalled, and one that does not exist."""
    listed = [ScoredItem(item, 1.0, 1.0, None, ()) for item in range(1, 13)]
    found = funnel({-1: listed}, {-1: [1, 11, 500, 9999]}, range(1, 1000))
    assert list(found.values()) == [4 / 4, 3 / 4, 2 / 4, 2 / 4, 1 / 4]


def test_the_index_on_artefacts_is_the_exact_search(artefacts: Offline) -> None:
    users, index = (
        ArtefactRecallStore(catalogue.SEQUENCE_USER_VECTORS.load()),
        ArtefactRecallIndex(catalogue.SEQUENCE_ITEM_VECTORS.load()),
    )
    user = next(u for u in users.users.values() if not u.terms)
    hits = index.recall(user, len(index.ids))
    products = index.vectors @ np.float32(user.vector)
    unseen = [item for item in range(len(index.ids)) if index.ids[item] not in user.seen]
    nearest = sorted(unseen, key=lambda item: -products[item])[:200]
    assert hits.itemids.tolist() == index.ids[nearest].tolist() and hits.by_vector.all() and not hits.by_term.any()
    by_term = index.recall(UserRecall(("Drama",), (), ()), len(index.ids))
    popular = catalogue.POPULAR_ITEMS.load()["itemid"].to_pylist()
    genres = dict(zip(*catalogue.ITEMS.load(["itemid", "genres"]).to_pydict().values(), strict=True))
    assert by_term.itemids.tolist() == [item for item in popular if "Drama" in genres[item]][:200]


def tracked_pictures() -> dict[Path, tuple[int, bytes]]:
    """The time of change and the content of every file of pic/, which git tracks."""
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in sorted((ROOT / "pic").iterdir())}


def test_make_evaluate_through_the_server_and_without_one(served: Stack, tmp_path: Path) -> None:
    """The server's lists are those of the artefacts; the recommender beats popularity by half; a report is written.

    The charts are written beside the report, and nothing that git tracks is.
    """
    before, run_dir = tracked_pictures(), Path(served.env["RUN_DIR"])
    reports = []
    for arguments in ((), ("--offline",)):
        succeed("benchmarks.quality.evaluate", *arguments, **served.env)
        reports.append(json.loads((run_dir / "evaluate.json").read_text()))
    assert tracked_pictures() == before
    assert {file.name for file in (run_dir / "charts").iterdir()} == EVALUATION_CHARTS
    refused = run_module("benchmarks.quality.charts", "--publish", **served.env)
    assert refused.returncode == 1 and "only charts of data set generated" in refused.stderr
    assert tracked_pictures() == before
    online, offline = reports
    assert online["dataset"] == offline["dataset"] == "hundred-thousand"
    compared = online["server_and_artefacts"]
    assert compared["users_compared"] + compared["left_out_for_their_events"] == online["rows"]["users"] > 900
    assert compared["identical"] > 0.95 * compared["users_compared"] and offline["server_and_artefacts"] is None
    for report in reports:
        recalls = {name: metrics["recall@50"]["value"] for name, metrics in report["systems"].items()}
        assert recalls["recommender"] > 1.5 * recalls["popularity"]
        assert set(report["systems"]) == {
            systems.SERVED, systems.POPULARITY, systems.BY_TERM, systems.BY_FM, systems.BY_SEQUENCE, systems.NOT_RANKED,
            systems.EVERYTHING_BY_LOGIT, systems.NOT_REFITTED, systems.LAMBDAMART, systems.ORACLE,
        }  # fmt: skip
        ndcg = {name: metrics["ndcg@10"]["value"] for name, metrics in report["systems"].items()}
        assert ndcg[systems.POPULARITY] < ndcg[systems.NOT_RANKED] < ndcg[systems.SERVED] < ndcg[systems.ORACLE]
        gain = report["differences"][f"{systems.SERVED} - {systems.NOT_RANKED}"]["ndcg@10"]
        assert gain["verdict"] == "higher" and gain["interval"][0] > 0
        shares = report["recalls"]
        assert shares["all together"] >= max(
            shares[n]["alone"] for n in (systems.BY_TERM, systems.BY_FM, systems.BY_SEQUENCE)
        )
        assert all(shares[n]["adds"] >= 0 for n in (systems.BY_TERM, systems.BY_FM, systems.BY_SEQUENCE))
        new_users = report["new_users"]["by_events"]
        assert list(new_users) == ["0", "1", "3", "10", "50"]
        assert new_users["0"]["gain over popularity"]["ndcg@10"]["value"] == 0
        assert new_users["50"]["gain over popularity"]["ndcg@10"]["verdict"] == "higher"
        one_event = report["new_users"]["one_event"]
        assert one_event["lists_unchanged"] < 0.05 and 0.3 < one_event["shared_items@50"] < 1
        assert report["auc"]["like head's logit"]["value"] > report["auc"]["popularity"]["value"]
        shares = list(report["funnel"].values())
        assert shares[0] == 1 and shares == sorted(shares, reverse=True)
        assert all(m["recall@50"]["interval"][0] < recalls[name] for name, m in report["systems"].items())
    assert recalls["recommender"] == pytest.approx(online["systems"]["recommender"]["recall@50"]["value"], abs=0.005)


def test_a_server_of_other_artefacts_is_refused(served: Stack, tmp_path: Path) -> None:
    """Other weights in the artefacts than in the loaded model: the lists differ, and the evaluation says so."""
    copy = tmp_path / "artefacts"
    shutil.copytree(served.artefacts, copy, ignore=shutil.ignore_patterns("online"))
    state = catalogue.RANKER_MODEL.load()
    torch.save({**state, "rank.first_weight": -state["rank.first_weight"]}, copy / catalogue.RANKER_MODEL.path)
    done = run_module("benchmarks.quality.evaluate", **{**served.env, "ARTEFACTS_DIR": str(copy)})
    assert done.returncode == 1 and "are not those of the artefacts" in done.stderr, done.stdout + done.stderr


def test_popularity_is_counted_over_all_offline_rows(artefacts: Offline) -> None:
    rows = catalogue.OFFLINE_IMPRESSIONS.load(["itemid", "label"]).to_pandas()
    most = rows[rows["label"] == 1]["itemid"].value_counts()
    item_catalogue = ItemCatalogue.load()
    assert most[item_catalogue.by_popularity[0]] == most.max()
    user = int(OnlineRows.load().userid[0])
    known = ArtefactRecallStore(catalogue.SEQUENCE_USER_VECTORS.load())
    assert not set(systems.popular([user], item_catalogue, known)[user]) & set(known.users[user].seen)


def test_only_charts_of_the_default_generated_data_set_are_published(
    artefacts: Offline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's picture stands for all: it is refused with another data set, seed or data folder, else copied."""
    pictures, run_dir = tmp_path / "pic", tmp_path / "run"
    pictures.mkdir()
    (run_dir / "charts").mkdir(parents=True)
    (run_dir / "charts/page.png").write_bytes(b"picture")
    monkeypatch.setattr(charts, "PUBLISHED", pictures)
    monkeypatch.setenv("RUN_DIR", str(run_dir))
    for dataset, seed, data_dir in (
        ("hundred-thousand", 2024, None),
        ("ml-1m", 2024, None),
        ("generated", 7, None),
        ("generated", 2024, "somewhere/generated"),
    ):
        monkeypatch.setenv("DATA_DIR", data_dir or "")
        (run_dir / "page.json").write_text(json.dumps({"dataset": dataset, "seed": seed}))
        with pytest.raises(charts.ChartError, match=f"is of data set {dataset}, seed {seed}"):
            charts.draw(Settings(), publish=True)
        assert not list(pictures.iterdir())
    monkeypatch.setenv("DATA_DIR", "")
    (run_dir / "page.json").write_text(json.dumps({"dataset": "generated", "seed": 2024}))
    assert charts.draw(Settings(), publish=True) == [pictures / "page.png"]
    assert (pictures / "page.png").read_bytes() == b"picture"


def test_charts_of_other_artefacts_than_the_report_are_refused(artefacts: Offline, tmp_path: Path) -> None:
    with pytest.raises(charts.ChartError, match="are not of the evaluation's data set another"):
        charts.draw_evaluation({"dataset": "another", "seed": 7}, tmp_path)


def test_a_server_that_does_not_respond_or_serves_other_data_is_refused(
    served: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_served(Settings())
    copy = tmp_path / "artefacts"
    (copy / catalogue.DATASET.path).parent.mkdir(parents=True)
    dataset = json.loads((served.artefacts / catalogue.DATASET.path).read_text())
    (copy / catalogue.DATASET.path).write_text(json.dumps({**dataset, "dataset": "another"}))
    monkeypatch.setenv("ARTEFACTS_DIR", str(copy))
    with pytest.raises(ReplayError, match="serves hundred-thousand, the settings say another"):
        check_served(Settings())
    (port,) = free_ports(1)
    monkeypatch.setenv("WEB_PORT", str(port))
    with pytest.raises(ReplayError, match="nothing responds at"):
        check_served(Settings())
