"""Establishes that the yardsticks are fair: LambdaMART sees what the ranker sees, and the oracle ranks by the truth."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks.quality import yardsticks
from benchmarks.quality.yardsticks import fit_lambdamart, lambdamart_lists, oracle_lists
from data_exchange_center.assembler import ranking_inputs, unknown_user
from data_exchange_center.columns import Column, Split
from data_exchange_center.features import RECALL_FEATURES
from data_exchange_center.limits import RANKER_IMPRESSIONS, RECALL_SIZE
from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.oracle import ORACLE_FILE, load_truth, oracle_scores
from offline.preprocess.synthetic.scale import Scale
from offline.rank.deepfm import DeepFM
from offline.rank.item_knowledge import empty_knowledge
from offline.rank.ranker import RANK_FEATURES, CandidateKnowledge, Ranker
from offline.rank.ranker_training import TrainingLists
from offline.recall.interactions import Interactions, Parts
from online.callers.types import NO_CANDIDATES
from online.recommendation import Recommendation
from online.snapshot import ItemFeatures, Snapshot
from testkit.dataset import FEATURES, a_dataset
from tests.online.stand_ins import CANDIDATES, DATA, USER

GAP = RECALL_FEATURES.index("gap")


def some_lists(count: int = 120, width: int = 20) -> TrainingLists:
    """One positive each, which is the candidate that recall scored lowest; the last 3 or 6 places hold no candidate."""
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(count, width, RANK_FEATURES, generator=generator)
    features[:, :, GAP] *= -3
    candidates = torch.arange(1, width + 1).repeat(count, 1)
    candidates[:, -3:], candidates[::2, -6:] = 0, 0
    gap = features[:, :, GAP].masked_fill(candidates == 0, 0.0)
    none = torch.zeros(count, RANKER_IMPRESSIONS, dtype=torch.int64)
    labels = gap == gap.amin(1, keepdim=True)
    return TrainingLists(
        np.arange(count), features, candidates, none, none, labels, np.ones(count, np.int64), torch.ones(count)
    )


# --- LambdaMART ------------------------------------------------------------------------------------------------------


def test_lambdamart_learns_an_obvious_rule() -> None:
    lists = some_lists()
    booster = fit_lambdamart(lists)
    scores = np.asarray(booster.predict(lists.features.flatten(0, 1).numpy())).reshape(120, -1)
    scores[lists.candidates.numpy() == 0] = -np.inf
    assert np.mean(lists.labels.numpy()[np.arange(120), scores.argmax(axis=1)]) > 0.9


def test_lambdamart_sees_neither_absent_candidates_nor_lists_without_a_positive() -> None:
    lists = some_lists()
    some = np.arange(120) < 100
    lists.labels[100:] = False
    changed = lists.features.clone()
    changed[lists.candidates == 0], changed[100:] = 9.0, -9.0
    models = [
        fit_lambdamart(fitted).model_to_string()
        for fitted in (lists.select(some), replace(lists, features=changed), lists)
    ]
    assert models[0] == models[1] == models[2]


def a_ranker() -> Ranker:
    torch.manual_seed(0)
    deepfm = DeepFM(FEATURES, FEATURES.vocabulary_sizes({"userid": 3, "itemid": 6}), (4,), "dense").eval()
    knowledge = empty_knowledge(3, 6, vector_dim=8, fm_dim=2)
    rng = np.random.default_rng(0)
    for table in (knowledge.vectors, knowledge.fm_items, knowledge.fm_users):
        table[:] = rng.normal(size=table.shape)
    return Ranker.unfitted(deepfm, CandidateKnowledge(knowledge))


class StandIns:
    """In place of the artefacts: lists that are given, and what was asked for to make them."""

    def __init__(self, lists: TrainingLists) -> None:
        self.lists, self.frame = lists, pa.table({Column.SPLIT: [Split.TRAIN, Split.TEST, Split.VALID, Split.TEST]})
        self.block: list[bool] = []
        self.fitted_to: Interactions | None = None
        self.predicted: list[np.ndarray] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tables = SimpleNamespace(
            TRAINING_FRAME=self.loads(self.frame),
            ITEM_FEATURES=self.loads("items"),
            ACTED_LISTS=self.loads("acted"),
            DATASET=self.loads(a_dataset()),
        )
        monkeypatch.setattr(yardsticks, "catalogue", tables)
        monkeypatch.setattr(yardsticks.Impressions, "load", lambda features, *tables: tables)
        monkeypatch.setattr(yardsticks, "MEASURED", SimpleNamespace(funnel=self.funnel))
        monkeypatch.setattr(yardsticks, "make_lists", self.make_lists)

    @staticmethod
    def loads(value: Any) -> SimpleNamespace:
        return SimpleNamespace(load=lambda: value)

    def funnel(self, rows: Interactions) -> str:
        self.fitted_to = rows
        return "funnel"

    def make_lists(self, impressions: tuple[Any, ...], funnel: str, block: np.ndarray) -> TrainingLists:
        assert impressions[1] is self.frame and impressions[2:] == ("items", "acted") and funnel == "funnel"
        self.block = block.tolist()
        return self.lists


ROWS = Interactions(np.array([1, 1, 1, 1]), np.array([1, 2, 3, 4]), np.ones(4, np.uint8), 3, 6)
PARTS = Parts(ROWS, *(ROWS.select(np.arange(4) < n) for n in (1, 2, 3, 4)))


def a_recommendation(**changes: Any) -> Recommendation:
    values = np.random.default_rng(1).integers(0, 2, (6, len(FEATURES.item_columns)))
    values[:, FEATURES.item_columns.index(Column.ITEM_INDEX)] = [1, 2, 3, 4, 5, 0]
    snapshot = Snapshot(DATA, ItemFeatures(np.array([1, 2, 3, 4, 5, 2**60]), values))
    user_features = np.arange(len(FEATURES.user_columns)) % 3
    user_features[FEATURES.user_columns.index(Column.USER_INDEX)] = 2
    known: dict[str, Any] = {"user": USER, "user_features": user_features, "candidates": CANDIDATES}
    return Recommendation(snapshot, (), (), **{**known, **changes})


def test_lambdamart_orders_the_recommenders_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitted to the lists of test, which were made by what was fitted to the training rows."""
    stand_ins = StandIns(some_lists())
    stand_ins.install(monkeypatch)
    backends: Any = SimpleNamespace(ranking_model=SimpleNamespace(ranker=a_ranker()))
    # What recall scored lowest is the best.
    candidates = replace(CANDIDATES, scores=np.array([3.0, 0.0, 2.9]))
    own = {7: a_recommendation(candidates=candidates), 8: a_recommendation(candidates=NO_CANDIDATES)}
    lists = lambdamart_lists(PARTS, backends, own)
    assert list(lists) == [7] and lists[7][0] == 2 and sorted(lists[7]) == [1, 2, 4]
    assert stand_ins.block == [False, True, False, True] and stand_ins.fitted_to is PARTS.training
    stand_ins.lists.labels[:] = False
    assert lambdamart_lists(PARTS, backends, own) == {}


@pytest.mark.parametrize("known", [True, False])
def test_lambdamart_sees_what_the_ranker_would(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ranker, stand_ins, seen = a_ranker(), StandIns(some_lists()), []
    stand_ins.install(monkeypatch)

    def predict(features: np.ndarray) -> np.ndarray:
        seen.append(features)
        return np.array([0.1, 0.3, 0.2])

    monkeypatch.setattr(yardsticks, "fit_lambdamart", lambda lists: SimpleNamespace(predict=predict))
    own = a_recommendation() if known else a_recommendation(user=None, user_features=None)
    backends: Any = SimpleNamespace(ranking_model=SimpleNamespace(ranker=ranker))
    assert lambdamart_lists(PARTS, backends, {7: own}) == {7: [2, 4, 1]}

    recent, liked = np.zeros((2, 1, RANKER_IMPRESSIONS), np.int64)
    if known:
        recent[0, -2:], liked[0, -2:] = [5, 3], [1, 0]  # USER's impressions
    user = own.user_features if own.user_features is not None else unknown_user(FEATURES)
    items = own.snapshot.item_features.values[[0, 1, 3]]
    recalled = CANDIDATES.scores[None], CANDIDATES.by_term[None], CANDIDATES.by_vector[None]
    inputs = ranking_inputs(FEATURES, user[None], items[None], recalled, (recent, liked))
    with torch.no_grad():
        expected = ranker.features(*map(torch.from_numpy, inputs))[0]
    np.testing.assert_allclose(seen[0], expected, rtol=1e-5, atol=1e-6)


# --- the oracle ------------------------------------------------------------------------------------------------------

TINY = Scale(users=30, items=60, ratings=700, max_userid=90, max_itemid=300)
Seen = Callable[[int], tuple[int, ...]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    generate(folder, TINY, seed=3)
    return folder


def ranked(
    data: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[int, list[int]], dict[int, np.ndarray]]:
    """The oracle's lists of some users and one that does not exist, and the scores behind them."""
    monkeypatch.setenv("DATA_DIR", str(data))
    truth = load_truth(data / ORACLE_FILE)
    users = truth.userid[::4]
    store: Any = SimpleNamespace(users={user: SimpleNamespace(seen=seen(user)) for user in users[1:].tolist()})
    lists = oracle_lists([*users.tolist(), 10_000], store, "oracle")["oracle"]
    assert list(lists) == users.tolist()
    scores = {
        user: row
        for block in oracle_scores(truth, users)
        for user, row in zip(block[0].tolist(), block[1], strict=True)
    }
    return {user: list(items) for user, items in lists.items()}, scores


def test_the_oracle_ranks_by_its_scores(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a user whom the store does not know, too."""
    ids = load_truth(data / ORACLE_FILE).itemid
    lists, scores = ranked(data, lambda user: (), monkeypatch)
    for user, items in lists.items():
        own = scores[user][np.searchsorted(ids, items)]
        assert (np.diff(own) <= 0).all() and own[0] > own[-1] and len(set(items)) == len(items) == 60 < RECALL_SIZE


def test_what_was_seen_stands_behind_everything_else_of_the_oracles_list(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = {user: items[:5] for user, items in ranked(data, lambda user: (), monkeypatch)[0].items()}
    lists, _ = ranked(data, lambda user: tuple(sorted(best[user])), monkeypatch)
    for user in list(lists)[1:]:
        assert not set(lists[user][: 60 - 5]) & set(best[user])


def test_what_was_seen_is_not_in_the_oracles_list(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = {user: items[:5] for user, items in ranked(data, lambda user: (), monkeypatch)[0].items()}
    lists, _ = ranked(data, lambda user: tuple(sorted(best[user])), monkeypatch)
    assert not any(set(lists[user]) & set(best[user]) for user in list(lists)[1:])


def test_real_data_have_no_oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    nothing: Any = None
    assert oracle_lists([1], nothing, "oracle") == {}
