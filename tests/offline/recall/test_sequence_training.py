"""Establishes that the tower is taught what comes next and nothing else, in all rows, and that it learns it."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from data_exchange_center.documents import TowerShape
from offline.fitting import Schedule
from offline.recall import sampled_softmax, sequence_training
from offline.recall.interactions import Interactions
from offline.recall.sequence_tower import SequenceTower
from offline.recall.sequence_training import (
    HORIZON,
    STRIDE,
    Batch,
    batches,
    fit_tower,
    new_tower,
    pieces,
    user_vectors,
)
from offline.recall.sequences import Sequences

LENGTHS = [1, 37, 2, 20, 64, 5, 21, 11, 1, 40]  # rows of each user


def sequences_of(lengths: list[int], items: np.ndarray, labels: np.ndarray, item_count: int) -> Sequences:
    users = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return Sequences.of(Interactions(users, items, labels.astype(np.uint8), len(lengths) + 1, item_count))


def numbered(positives: float = 0.4) -> Sequences:
    """Every row has an item of its own, the row's number and 1, so that a batch can be read."""
    rows = sum(LENGTHS)
    labels = np.random.default_rng(3).random(rows) < positives
    return sequences_of(LENGTHS, np.arange(1, rows + 1), labels, rows + 1)


# --- pieces ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 7, 20, 100])
def test_pieces_cover_every_row_once_and_never_cross_users(length: int) -> None:
    sequences, ways = numbered(), set()
    for seed in range(20):
        cut = pieces(sequences, length, np.random.default_rng(seed))
        rows = np.concatenate([np.arange(begin, end) for begin, end in cut])
        assert rows.tolist() == list(range(len(sequences.users)))
        assert ((cut[:, 1] - cut[:, 0] >= 1) & (cut[:, 1] - cut[:, 0] <= length)).all()
        assert (sequences.users[cut[:, 0]] == sequences.users[cut[:, 1] - 1]).all()
        ways.add(cut.tobytes())
    assert len(ways) > 1 or length in (1, 100)  # other places in each epoch, where there is a choice


def test_a_user_with_few_rows_is_one_piece() -> None:
    sequences = numbered()
    cut = pieces(sequences, max(LENGTHS), np.random.default_rng(0))
    assert (cut[:, 1] - cut[:, 0]).tolist() == LENGTHS


# --- batches ---------------------------------------------------------------------------------------------------------


def taught(batch: Batch) -> Iterator[tuple[list[int], list[int], list[int], list[int]]]:
    """Of each state that teaches: the rows that it sees and their likes, its targets' rows, and what is left out."""
    piece, place = batch.chosen.nonzero(as_tuple=True)
    assert len(piece) == len(batch.targets) == len(batch.weights)
    for state, (row, at) in enumerate(zip(piece.tolist(), batch.at[piece, place].tolist(), strict=True)):
        sees, liked = batch.items[row, : at + 1] - 1, batch.liked[row, : at + 1]
        targets = batch.targets[state][batch.weights[state] > 0] - 1
        left_out = batch.seen[1][batch.seen[0] == state] - 1
        yield sees.tolist(), liked.tolist(), targets.tolist(), left_out.tolist()


@pytest.mark.parametrize(("length", "size"), [(20, 3), (100, 4), (7, 1), (20, 100)])
def test_states_are_taught_the_next_positives_of_their_user(length: int, size: int) -> None:
    sequences, states = numbered(), set()
    for seed in range(5):
        for batch in batches(sequences, length, size, np.random.default_rng(seed)):
            assert set(batch.weights.unique().tolist()) == {0, 1} and len(batch.items) <= size
            for sees, liked, targets, left_out in taught(batch):
                last = sees[-1]
                start, end = sequences.start[last], sequences.end[last]
                following = range(last + 1, min(last + 1 + HORIZON, end))
                assert targets == [row for row in following if sequences.labels[row]] and targets
                assert sees == list(range(sees[0], last + 1)) and sees[0] >= start
                assert liked == sequences.labels[sees].tolist()
                assert left_out == list(range(start, last + 1))
                states.add(last)
    # Every row but a user's last, and those that nothing liked follows, is a state in some epoch.
    possible = {
        row
        for row in range(len(sequences.users))
        if sequences.labels[row + 1 : min(row + 1 + HORIZON, sequences.end[row])].any()
    }
    assert states <= possible and len(states) > len(possible) / 4


def test_an_epoch_shows_every_piece_and_teaches_at_every_stride() -> None:
    """All rows positive: no piece is left out but for what nothing follows, and states stand STRIDE apart."""
    sequences = numbered(positives=1.0)
    shown = []
    for batch in batches(sequences, 20, 3, np.random.default_rng(1)):
        for items, at, chosen in zip(batch.items, batch.at, batch.chosen, strict=True):
            rows, places = items[items > 0] - 1, at[chosen].tolist()
            shown += rows.tolist()
            teaching = len(rows) - (rows[-1].item() + 1 in np.cumsum(LENGTHS))  # nothing follows a user's last row
            assert places == list(range(places[0] if places else STRIDE, teaching, STRIDE))
            assert not places or places[0] < STRIDE
            assert places or teaching < STRIDE
    assert len(shown) == len(set(shown)) > 0.8 * len(sequences.users)


def test_nothing_to_predict_makes_no_batch() -> None:
    for sequences in (
        numbered(positives=0.0),
        sequences_of([1] * 5, np.arange(1, 6), np.ones(5), 6),
        sequences_of([], np.zeros(0, np.int64), np.zeros(0), 6),
    ):
        assert not list(batches(sequences, 20, 3, np.random.default_rng(0)))


# --- fits ------------------------------------------------------------------------------------------------------------

SHAPE = TowerShape(dim=16, heads=2, window=8, dropout=0.0)
CYCLE = 20


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and large steps: a tiny world needs no more."""
    monkeypatch.setattr(sequence_training, "STEPS", 10)
    monkeypatch.setattr(sequence_training, "LEARNING_RATE", 0.02)


def cycles(users: int = 80, rows: int = 12) -> Sequences:
    """Item i is always followed by i + 1, and the last by the first; every user begins somewhere."""
    starts = np.random.default_rng(0).integers(0, CYCLE, users)
    items = (starts[:, None] + np.arange(rows)) % CYCLE + 1
    return sequences_of([rows] * users, items.ravel(), np.ones(users * rows), CYCLE + 1)


def next_items(tower: SequenceTower) -> list[int]:
    """The unseen item of the best score after each item of the cycle and the two before it."""
    items = (np.arange(CYCLE)[:, None] + np.arange(-2, 1)) % CYCLE + 1
    windows = np.pad(items, ((0, 0), (SHAPE.window - 3, 0)))
    vectors = user_vectors(tower, torch.from_numpy(windows), torch.from_numpy((windows > 0).astype(np.int64)))
    scores = vectors @ tower.item_vectors().T
    np.put_along_axis(scores, items, -np.inf, axis=1)
    return (scores[:, 1:].argmax(axis=1) + 1).tolist()


@pytest.mark.parametrize("full_softmax_items", [20_000, 0], ids=["full softmax", "sampled"])
def test_what_always_follows_is_learned(full_softmax_items: int, fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several positives to come none is the next one, so here a state is to predict one impression alone."""
    monkeypatch.setattr(sequence_training, "HORIZON", 1)
    monkeypatch.setattr(sequence_training, "STRIDE", 1)
    monkeypatch.setattr(sampled_softmax, "FULL_SOFTMAX_ITEMS", full_softmax_items)
    monkeypatch.setattr(sampled_softmax, "NEGATIVES", 15)
    sequences = cycles()
    tower = new_tower(sequences, SHAPE, 0)
    expected = [item % CYCLE + 1 for item in range(1, CYCLE + 1)]
    before = np.mean(np.array(next_items(tower)) == expected)
    fit_tower(tower, sequences, Schedule(8), 0)
    assert before < 0.3 and next_items(tower) == expected
    assert not tower.training and tower.items.device.type == "cpu"
    assert not tower.items[0].any()  # the unknown item is no negative


def test_what_is_not_liked_is_not_recommended(fast: None) -> None:
    """Every user goes on with two items, of which they like the same one: only that one may score high."""
    users = 120
    items = np.array([[1 + user % 10, 11, 12] for user in range(users)])
    sequences = sequences_of([3] * users, items.ravel(), np.tile([1, 0, 1], users), 14)
    tower = new_tower(sequences, SHAPE, 0)
    with torch.no_grad():
        tower.bias.zero_()
    fit_tower(tower, sequences, Schedule(10), 0)
    windows = torch.tensor([[0] * 7 + [1]])
    scores = (user_vectors(tower, windows, (windows > 0).long()) @ tower.item_vectors().T)[0]
    assert scores[2:].argmax() + 2 == 12 and scores[11] < scores[12] - 1


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_same_seed_gives_the_same_weights(dropout: float) -> None:
    """Whatever random numbers were drawn before; without dropout the seed is that of the states and their order."""
    sequences, states = cycles(users=20, rows=8), []
    for seed in (1, 1, 2):
        tower = new_tower(sequences, TowerShape(dim=8, heads=2, window=8, dropout=dropout), 0)
        torch.rand(1 + len(states))
        best = fit_tower(tower, sequences, Schedule(2), seed)
        assert best.epochs == 2
        states.append(tower.state_dict())
    one, again, other = states
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["items"], other["items"])


@pytest.mark.parametrize(
    ("lengths", "positive"), [([1] * 6, 1), ([5, 1, 8], 0), ([], 1)], ids=["one row each", "no positive", "no row"]
)
def test_rows_that_teach_nothing_leave_finite_weights(lengths: list[int], positive: int) -> None:
    rows = sum(lengths)
    sequences = sequences_of(lengths, np.arange(rows) % 7 + 1, np.full(rows, positive), 8)
    tower = new_tower(sequences, SHAPE, 0)
    fit_tower(tower, sequences, Schedule(2), 0)
    assert all(parameter.isfinite().all() for parameter in tower.parameters())
    windows = torch.tensor([[0] * 8, [0] * 7 + [1]])
    assert np.isfinite(user_vectors(tower, windows, (windows > 0).long())).all()


def test_a_new_tower_begins_as_popularity() -> None:
    labels = np.array([1, 1, 0, 1, 1, 0])
    tower = new_tower(sequences_of([6], np.array([1, 1, 2, 1, 3, 3]), labels, 5), SHAPE, 0)
    np.testing.assert_allclose(tower.bias.detach().exp(), np.array([1, 4, 1, 2, 1]) / 9, rtol=1e-5)


def test_items_are_drawn_with_the_probability_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled_softmax, "NEGATIVES", 5)
    torch.manual_seed(0)
    weights, counts, said = torch.tensor([0, 1, 2, 4, 8.0]).double(), torch.zeros(5), torch.zeros(5)
    for _ in range(3000):
        drawn, log_expected = sampled_softmax.draw_items(weights)
        assert len(drawn.unique()) == len(drawn)
        counts[drawn] += 1
        said[drawn] = log_expected.exp()
    assert counts[0] == 0
    np.testing.assert_allclose(counts / 3000, said, atol=0.03)


def test_users_are_scored_without_dropout_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence_training, "SCORING_BATCH", 2)
    tower = new_tower(cycles(users=5), TowerShape(dim=8, heads=2, window=4), 0).train()
    items = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7], [0, 0, 0, 9], [0, 0, 0, 0], [8, 7, 6, 5]])
    found = user_vectors(tower, items, (items % 2))
    with torch.no_grad():
        expected = torch.cat([tower.eval()(row[None], row[None] % 2) for row in items])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_no_windows_have_no_vectors() -> None:
    none = torch.zeros(0, 4, dtype=torch.int64)
    assert user_vectors(new_tower(cycles(users=2), SHAPE, 0), none, none).shape == (0, 17)


def test_an_item_that_was_met_before_is_no_target() -> None:
    """The sum of the softmax leaves out what was seen: as a target it would make the loss fall without bound."""
    items = np.tile(np.arange(1, 13), 2)
    rows = Interactions(np.ones(24, np.int64), items, np.ones(24, np.uint8), 2, 13)
    for batch in batches(Sequences.of(rows), 24, 4, np.random.default_rng(0)):
        seen = set(zip(*(part.tolist() for part in batch.seen), strict=True))
        pairs = {
            (row, target)
            for row, (targets, weights) in enumerate(zip(batch.targets.tolist(), batch.weights.tolist(), strict=True))
            for target, weight in zip(targets, weights, strict=True)
            if weight
        }
        assert pairs and not pairs & seen
