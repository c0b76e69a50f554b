"""Establishes that the gate refuses a poisoned model and lets an equal one pass, and what promoting moves."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.loop import gate, retrain
from benchmarks.loop.contender import LatestRows
from benchmarks.loop.evaluation import ACTING, EXPECTED, PANEL, RECALL, SYSTEMS, by_group
from benchmarks.loop.people import People
from data_exchange_center import catalogue
from data_exchange_center.columns import Column
from data_exchange_center.commit import writing
from data_exchange_center.settings import Settings
from offline.__main__ import recorded_name
from offline.fitting import Schedule
from offline.preprocess import movielens
from offline.preprocess.readers.with_events import EVENTS_FILE, EXPOSURES_FILE, WithEvents
from offline.preprocess.synthetic.oracle import ORACLE_FILE, load_truth
from offline.rank.training import HyperParameters, Rows, fit
from testkit.stack import in_force
from tests.conftest import Offline

USERS = 100


def metric(old: float, new: float, low: float, high: float) -> dict[str, Any]:
    return {"old": old, "new": new, "difference": {"value": new - old, "interval": (low, high), "verdict": ""}}


@pytest.mark.parametrize(
    ("low", "high", "refused"),
    [(0.01, 0.03, False), (-0.01, 0.02, False), (-0.02, -0.001, True), (-0.021, 0.2, True), (0.0, 0.0, False)],
)
def test_what_is_worse_or_may_be_much_worse_is_refused(low: float, high: float, refused: bool) -> None:
    found = gate.refusals({"ndcg@10": metric(0.2, 0.3, 0.05, 0.15), "recall@50": metric(0.2, 0.2, low, high)})
    assert bool(found) == refused and all("recall@50" in reason for reason in found)


def poisoned(artefacts: Path, folder: Path) -> Path:
    """The artefacts with a ranking model whose DeepFM was fitted to shuffled labels."""
    shutil.copytree(artefacts, folder, copy_function=os.link)
    with in_force({"ARTEFACTS_DIR": str(folder)}):
        data, frame = catalogue.DATASET.load(), catalogue.TRAINING_FRAME.load(rows=(0, 20_000))
        labels = np.random.default_rng(0).permutation(frame[Column.LABEL].to_numpy())
        frame = frame.set_column(frame.column_names.index(Column.LABEL), Column.LABEL, pa.array(labels))
        document, state = catalogue.RANKER_META.load(), catalogue.RANKER_MODEL.load()
        chosen = catalogue.MODEL_METRICS.load().deepfm
        rows = Rows.from_table(frame, data.features)
        deepfm, _ = fit(rows, HyperParameters(chosen.l2, chosen.deep_inputs), data.vocabulary_sizes, Schedule(2), 0)
        own = {f"deepfm.{name}": values for name, values in deepfm.state_dict().items()}
        assert set(own) <= set(state) and document.columns
        with writing((catalogue.RANKER_MODEL,)) as out:
            out.save(catalogue.RANKER_MODEL, state | own)
    return folder


def test_the_gate_refuses_a_model_of_shuffled_labels_and_no_equal_one(artefacts: Offline, tmp_path: Path) -> None:
    data = movielens.raw_data(Settings())
    users = catalogue.USER_FILTER.load([Column.USERID])[Column.USERID].to_numpy()[:USERS]
    same = gate.compare(artefacts.artefacts, artefacts.artefacts, data, users)
    assert not same.refusals and same.users > 50
    assert all(m["difference"]["value"] == 0 and m["old"] > 0 for m in same.metrics.values())
    other = gate.compare(artefacts.artefacts, poisoned(artefacts.artefacts, tmp_path / "poisoned"), data, users)
    auc = other.metrics[gate.AUC]
    assert auc["old"] > 0.65 and auc["new"] < auc["old"] - 0.02
    assert other.refusals and gate.AUC in " ".join(other.refusals)
    few = gate.compare(artefacts.artefacts, artefacts.artefacts, data, users[:20])
    assert "50 are needed" in few.refusals[0]


def test_the_gates_rows_are_those_that_no_model_was_fitted_to(artefacts: Offline) -> None:
    """With events: the latest rows are the last ones with them, and none of them is an offline row of either data."""
    ratings = movielens.raw_data(Settings()).ratings()
    user = int(ratings[Column.USERID][0].as_py())
    own = ratings.filter(pa.array(ratings[Column.USERID].to_numpy() == user))
    seen, items = set(own[Column.ITEMID].to_pylist()), catalogue.ITEMS.load([Column.ITEMID])[Column.ITEMID].to_pylist()
    new = [item for item in items if item not in seen][:3]
    last = max(own[Column.TIMESTAMP].to_pylist())

    class Source:
        online_rows, scale = 10, catalogue.DATASET.load().scale

        def ratings(self) -> pa.Table:
            columns = {Column.USERID: [user] * 3, Column.ITEMID: new, Column.RATING: [5.0, 1.0, 4.0]}
            events = pa.table({**columns, Column.TIMESTAMP: [last + place for place in (1, 2, 3)]}, ratings.schema)
            return pa.concat_tables([ratings, events])

    rows = LatestRows.of(Source(), np.array([user]))  # type: ignore[arg-type]
    latest = rows.latest[Column.ITEMID].to_pylist()
    fitted = catalogue.OFFLINE_IMPRESSIONS.load([Column.USERID, Column.ITEMID]).to_pylist()
    assert latest[-3:] == new and len(latest) == 10
    assert not {(user, item) for item in latest} & {tuple(row.values()) for row in fitted}
    assert rows.relevant()[user][-2:] == [new[0], new[2]]
    assert len(rows.before) + 10 == len(own) + 3


def test_promoting_moves_everything_and_the_raw_data_go_on_with_the_events(
    tmp_path: Path, artefacts: Offline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path))
    candidate, kept = tmp_path / retrain.CANDIDATE, tmp_path / "online_to_offline/event_ratings.parquet"
    event = {Column.USERID: [77], Column.ITEMID: [5], "external_userid": [None], "external_itemid": [None]}
    events = pa.table({**event, Column.RATING: [4.0], Column.TIMESTAMP: [9]}, catalogue.EVENT_RATINGS.present_schema)
    seen = catalogue.EXPOSURES.present_schema.empty_table()
    with writing((catalogue.EVENT_RATINGS, catalogue.EXPOSURES)) as out:
        out.save(catalogue.EVENT_RATINGS, events)
        out.save(catalogue.EXPOSURES, seen)
    assert retrain.new_events(Settings()).tolist() == [77]
    assert retrain.prepare(Settings()) == candidate
    files = {"offline/common/a.json": "new", "offline/rank/t.parquet/1.parquet": "part", ".stages/s.json": "record"}
    for name, content in files.items():
        (candidate / name).parent.mkdir(parents=True, exist_ok=True)
        (candidate / name).write_text(content)
    (tmp_path / "offline/common").mkdir(parents=True)
    (tmp_path / "offline/common/a.json").write_text("old")
    (tmp_path / "offline/rank").mkdir()
    (tmp_path / "offline/rank/t.parquet").write_text("a file before, and parts now")
    retrain.promote(candidate)
    assert {name: (tmp_path / name).read_text() for name in files} == files
    assert kept.exists() and not candidate.exists() and not list((tmp_path / ".commits").iterdir())
    assert not len(retrain.new_events(Settings()))
    data = movielens.raw_data(Settings())
    assert isinstance(data, WithEvents) and data.files[-2:] == [tmp_path / EVENTS_FILE, tmp_path / EXPOSURES_FILE]
    assert data.ratings().to_pylist()[-1] == {"userid": 77, "itemid": 5, "rating": 4.0, "timestamp": 9}
    assert len(data.ratings()) == len(data.original.ratings()) + 1
    # The record of the first stage names the events alike before and after they are moved.
    with in_force({"ARTEFACTS_DIR": str(candidate)}) as settings:
        assert recorded_name(candidate / EVENTS_FILE, settings) == EVENTS_FILE
    assert pq.read_table(tmp_path / EVENTS_FILE).equals(events)
    assert pq.read_table(tmp_path / EXPOSURES_FILE).schema.equals(seen.schema)


def test_people_like_what_suits_them_and_look_at_the_first_places_most(artefacts: Offline) -> None:
    truth = load_truth(artefacts.data / ORACLE_FILE)
    online = catalogue.ONLINE_IMPRESSIONS.load([Column.USERID, Column.ITEMID]).to_pylist()
    last: dict[int, list[int]] = {}
    for row in online:
        last.setdefault(row[Column.USERID], []).append(row[Column.ITEMID])
    people = People(truth, last, 1)
    rows = catalogue.OFFLINE_IMPRESSIONS.load([Column.USERID, Column.ITEMID]).to_pylist()
    rated = {(row[Column.USERID], row[Column.ITEMID]) for row in (*rows, *online)}
    alone = people.go_on(10)
    pairs = set(zip(people.userids[alone.user].tolist(), truth.itemid[alone.item].tolist(), strict=True))
    assert len(pairs) == len(alone.user) == 10 * len(people.userids) and not pairs & rated
    assert 0.4 < alone.liked.mean() < 0.75  # of MovieLens's ratings 0.575 are positives
    items = truth.itemid.tolist()
    shown = people.look({user: items[:50] for user in people.userids.tolist()})
    again = set(zip(people.userids[shown.user].tolist(), truth.itemid[shown.item].tolist(), strict=True))
    assert not again & (rated | pairs)
    counts = np.bincount(shown.position, minlength=51)[1:]
    assert counts[:5].sum() > 2 * counts[-5:].sum() and shown.liked.mean() > alone.liked.mean()


def test_the_panel_stays_as_it_is_while_the_others_act(artefacts: Offline) -> None:
    truth = load_truth(artefacts.data / ORACLE_FILE)
    last = {user: [] for user in truth.userid.tolist()}
    people, size = People(truth, last, 1, 20), len(truth.userid)
    assert people.in_panel.sum() == 20
    before = people.expected()
    alone, shown = people.go_on(10), dict.fromkeys(truth.userid.tolist(), truth.itemid.tolist()[:50])
    rated = people.look(shown)  # all of them are shown a list
    assert len(shown) == size == len(alone.user) / 10 + 20 and len(rated.user)
    assert not people.in_panel[alone.user].any() and not people.in_panel[rated.user].any()
    after = people.expected()
    assert (after[people.in_panel] == before[people.in_panel]).all()
    assert (after[~people.in_panel] != before[~people.in_panel]).any(axis=1).all()


def test_each_group_of_users_is_compared_with_itself(artefacts: Offline) -> None:
    truth = load_truth(artefacts.data / ORACLE_FILE)
    people = People(truth, {user: [] for user in truth.userid.tolist()}, 1, 20)
    values = np.where(people.in_panel, 0.25, 0.5)
    acted = np.where(people.in_panel, np.nan, 1.0)
    metrics = {name: {EXPECTED: values - place / 10, RECALL: acted} for place, name in enumerate(SYSTEMS)}
    found = by_group(metrics, {SYSTEMS[0]: {EXPECTED: values * 2, RECALL: acted}}, people, 1)
    assert found[PANEL]["systems"][SYSTEMS[1]] == {EXPECTED: {"value": pytest.approx(0.15), "interval": (0.15, 0.15)}}
    gains = {group: (own["gain"][EXPECTED]["value"], own["gain"].get(RECALL)) for group, own in found.items()}
    assert gains[PANEL] == (-0.25, None) and gains[ACTING][0] == -0.5 and gains[ACTING][1]["value"] == 0
    assert found[ACTING]["gain_over_never_retrained"][EXPECTED]["value"] == pytest.approx(0.1)


@pytest.mark.parametrize("refusals", [[], ["recall@50 is lower"]])
def test_what_is_refused_is_neither_moved_nor_loaded(
    refusals: list[str], tmp_path: Path, artefacts: Offline, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "served/offline/common").mkdir(parents=True)
    shutil.copy(artefacts.artefacts / catalogue.DATASET.path, tmp_path / "served/offline/common")
    monkeypatch.setenv("ARTEFACTS_DIR", str(tmp_path / "served"))
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setattr("sys.argv", ["retrain"])
    event = {Column.USERID: [77], Column.ITEMID: [5], "external_userid": [None], "external_itemid": [None]}
    with writing((catalogue.EVENT_RATINGS, catalogue.EXPOSURES)) as out:
        out.save(catalogue.EVENT_RATINGS, pa.table({**event, Column.RATING: [4.0], Column.TIMESTAMP: [9]}))
        out.save(catalogue.EXPOSURES, catalogue.EXPOSURES.present_schema.empty_table())
    ran: list[str] = []

    def run(module: str, *_: str, **env: str) -> None:
        ran.append(module)
        if module == "offline":
            (Path(env["ARTEFACTS_DIR"]) / "offline/new.json").write_text("fitted")

    monkeypatch.setattr(retrain, "run", run)
    found = gate.Gate(60, {"recall@50": metric(0.3, 0.2, -0.2, -0.1)}, refusals)
    monkeypatch.setattr(retrain, "compare", lambda *_: found)
    drained = [*retrain.DRAIN, "offline"]
    if refusals:
        with pytest.raises(retrain.Refused):
            retrain.main()
        assert ran == drained and not (tmp_path / "served/offline/new.json").exists()
    else:
        retrain.main()
        assert ran == [*drained, "offline_to_online", "benchmarks.loop.replay"]
        assert (tmp_path / "served/offline/new.json").read_text() == "fitted"
        retrain.main()  # the same events again: there is nothing to fit
        assert ran[5:] == list(retrain.DRAIN)
    report = json.loads((tmp_path / "run/retrain.json").read_text())
    assert report["promoted"] == (not refusals) and report["refusals"] == refusals and report["events"] == 1
