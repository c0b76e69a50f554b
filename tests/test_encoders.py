"""Establishes that the compared encoders see the past alone, that padding is nothing to them, and that they learn."""

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.quality import sequence_encoders
from benchmarks.quality.encoders import TOP, Fit, metrics_by_user
from benchmarks.quality.sequence_encoders import GRUTower, SASRecTower, fit_next_liked, next_liked
from data_exchange_center.documents import TowerShape
from offline.fitting import Schedule
from offline.recall import sampled_softmax, sequence_training
from offline.recall.interactions import Interactions
from offline.recall.sequence_tower import SequenceTower
from offline.recall.sequence_training import fit_tower, user_vectors
from offline.recall.sequences import Sequences

ITEMS, WINDOW, CYCLE = 12, 6, 20
BOTH = pytest.mark.parametrize("kind", [GRUTower, SASRecTower], ids=["GRU", "SASRec"])


def a_tower(kind: type[SequenceTower]) -> SequenceTower:
    """All parameters random, those of the unknown item too: nothing may look at them."""
    torch.manual_seed(5)
    tower = kind(ITEMS, TowerShape(dim=8, heads=2, window=WINDOW), torch.zeros(ITEMS))
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    return tower.eval()


@torch.no_grad()
def states(tower: SequenceTower, items: list[int], liked: list[int]) -> np.ndarray:
    """[n, dim] the state after each impression."""
    at = torch.arange(len(items))[None]
    return tower.states(torch.tensor([items]), torch.tensor([liked]), at)[0].numpy()


def differs(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max() > 1e-3)


@BOTH
def test_a_later_impression_changes_no_earlier_state(kind: type[SequenceTower]) -> None:
    tower, items, liked = a_tower(kind), [3, 4, 0, 5, 6], [1, 0, 0, 1, 1]
    before = states(tower, items, liked)
    for changed, kinds in (([3, 4, 0, 9, 9], [1, 0, 0, 0, 0]), ([3, 4, 0, 0, 0], [1, 0, 0, 0, 0])):
        after = states(tower, changed, kinds)
        np.testing.assert_allclose(before[:3], after[:3], atol=1e-5)
        assert differs(before[4], after[4])
    np.testing.assert_allclose(before[:2], states(tower, items[:2], liked[:2]), atol=1e-5)
    assert differs(before[1], states(tower, [4, 3], [0, 1])[1])  # order matters
    assert differs(before[4], states(tower, items, [1, 1, 0, 1, 1])[4])  # and so does liking


@BOTH
def test_padding_changes_nothing(kind: type[SequenceTower]) -> None:
    """Before the sequence, behind it or in the midst of it; nor does the unknown item, whatever its vector."""
    tower = a_tower(kind)
    expected = states(tower, [3, 9, 5], [1, 0, 1])
    for padded in ([0, 0, 0, 3, 9, 5], [3, 9, 5, 0, 0], [0, 3, 0, 9, 5, 0]):
        places = np.flatnonzero(padded)
        liked = np.zeros(len(padded), int)
        liked[places] = [1, 0, 1]
        np.testing.assert_allclose(states(tower, padded, liked.tolist())[places], expected, atol=1e-5)
    with torch.no_grad():
        served = tower(torch.tensor([[0, 0, 0, 3, 9, 5]]), torch.tensor([[0, 0, 0, 1, 0, 1]]))[0].numpy()
        tower.items[0] += 5
    np.testing.assert_allclose(served[:-1], expected[-1], atol=1e-5)
    np.testing.assert_allclose(states(tower, [3, 0, 9, 5], [1, 1, 0, 1])[[0, 2, 3]], expected, atol=1e-5)


@BOTH
def test_an_empty_window_has_a_finite_vector_and_finite_gradients(kind: type[SequenceTower]) -> None:
    tower = a_tower(kind).train()
    nothing = torch.zeros(2, WINDOW, dtype=torch.int64)
    found = tower(nothing, nothing)
    assert found.isfinite().all() and torch.equal(found[0], found[1])
    found.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in tower.parameters())


def test_the_next_liked_impression_is_found() -> None:
    items, liked = torch.tensor([[7, 8, 0, 9, 5], [1, 2, 3, 0, 0]]), torch.tensor([[1, 0, 1, 1, 0], [0, 1, 0, 0, 0]])
    assert next_liked(items, liked).tolist() == [[3, 3, 3, 5, 5], [1, 5, 5, 5, 5]]


def cycles(users: int = 80, rows: int = 12) -> Sequences:
    """Item i is always followed by i + 1, and the last by the first; every user begins somewhere."""
    starts = np.random.default_rng(0).integers(0, CYCLE, users)
    items = (starts[:, None] + np.arange(rows)) % CYCLE + 1
    ids = np.repeat(np.arange(1, users + 1), rows)
    return Sequences.of(Interactions(ids, items.ravel(), np.ones(users * rows, np.uint8), users + 1, CYCLE + 1))


def next_items(tower: SequenceTower) -> list[int]:
    """The unseen item of the best score after each item of the cycle and the two before it."""
    items = (np.arange(CYCLE)[:, None] + np.arange(-2, 1)) % CYCLE + 1
    windows: Tensor = torch.from_numpy(np.pad(items, ((0, 0), (5, 0))))
    scores = user_vectors(tower, windows, (windows > 0).long()) @ tower.item_vectors().T
    np.put_along_axis(scores, items, -np.inf, axis=1)
    return (scores[:, 1:].argmax(axis=1) + 1).tolist()


@pytest.mark.parametrize(
    ("kind", "fit"),
    [(GRUTower, fit_tower), (SASRecTower, fit_tower), (SASRecTower, fit_next_liked)],
    ids=["GRU", "SASRec, the product's objective", "SASRec, its own objective"],
)
def test_what_always_follows_is_learned(kind: type[SequenceTower], fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several positives to come none is the next one, so here a state is to predict one impression alone."""
    monkeypatch.setattr(sequence_training, "STEPS", 10)
    monkeypatch.setattr(sequence_training, "LEARNING_RATE", 0.02)
    for module in (sampled_softmax, sequence_encoders):
        monkeypatch.setattr(module, "NEGATIVES", 15)
    monkeypatch.setattr(sequence_training, "HORIZON", 1)
    monkeypatch.setattr(sequence_training, "STRIDE", 1)
    torch.manual_seed(0)
    tower = kind(CYCLE + 1, TowerShape(dim=16, heads=2, window=8, dropout=0.0), torch.zeros(CYCLE + 1))
    expected = [item % CYCLE + 1 for item in range(1, CYCLE + 1)]
    before = np.mean(np.array(next_items(tower)) == expected)
    fit(tower, cycles(), Schedule(10), 0)
    assert before < 0.3 and next_items(tower) == expected


def test_metrics_of_users_equal_slow_ones() -> None:
    users, items = np.array([[0.0], [1], [1], [1]], np.float32), np.arange(0, -30, -1, dtype=np.float32)[:, None]
    seen = Interactions(np.array([1, 2]), np.array([1, 5]), np.ones(2, np.uint8), 4, 30)
    held_out = Interactions(np.array([1, 1, 2, 3]), np.array([3, 28, 1, 2]), np.array([1, 1, 1, 0], np.uint8), 4, 30)
    evaluated, found = metrics_by_user((users, items), seen, held_out)
    assert evaluated.tolist() == [1, 2] and found["recall@50"].tolist() == [1, 1]
    # Item 3 is the second of user 1, who has seen item 1; item 28 is behind the first TOP.
    expected = [(1 / np.log2(3)) / (1 + 1 / np.log2(3)), 1]
    assert found[f"ndcg@{TOP}"].tolist() == pytest.approx(expected)
