"""Establishes that training lists are those that the server would have made: nothing of what came after is in them."""

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_exchange_center import catalogue
from data_exchange_center.assembler import ranking_inputs
from data_exchange_center.columns import Column
from data_exchange_center.documents import TowerShape
from data_exchange_center.limits import RANKER_IMPRESSIONS
from data_exchange_center.user_state import liked_genres, window_counts
from offline.rank import candidate_lists
from offline.rank.acted_lists import ActedLists
from offline.rank.candidate_lists import NEXT, STRIDE, Funnel, Impressions, lists_acted_on, make_lists, moments
from offline.rank.deepfm import DeepFM
from offline.rank.item_knowledge import knowledge_of
from offline.rank.ranker import CandidateKnowledge, Ranker
from offline.rank.ranker_training import TrainingLists
from offline.recall.array_recall import recall_on_arrays
from offline.recall.interactions import Interactions
from offline.recall.sequence_tower import SequenceTower
from offline.recall.sequences import Sequences
from testkit.dataset import FEATURES

USERS, ITEMS, DIM = 7, 41, 8
LENGTHS = [14, 9, 38, 3, 30, 1]  # rows of each user


@dataclass(frozen=True)
class World:
    """Rows of a few users, no item twice of one user, and which of them belong to the block."""

    rows: Interactions
    flags: np.ndarray  # [ITEMS, genres]
    block: np.ndarray
    acted: pa.Table = field(default_factory=catalogue.ACTED_LISTS.present_schema.empty_table)

    @property
    def impressions(self) -> Impressions:
        sequences = Sequences.of(self.rows)
        rows = np.arange(len(sequences.users))
        of_items = self.flags[self.rows.items]
        user_features = np.zeros((len(rows), len(FEATURES.user_columns)), np.int64)
        user_features[:, FEATURES.user_columns.index(Column.USER_INDEX)] = self.rows.users
        history = FEATURES.history_places
        user_features[:, history] = window_counts(of_items, self.rows.labels, sequences.start, rows)
        items = np.zeros((ITEMS, len(FEATURES.item_columns)), np.int64)
        items[:, FEATURES.item_columns.index(Column.ITEM_INDEX)] = np.arange(ITEMS)
        items[:, FEATURES.flag_places] = self.flags
        return Impressions(FEATURES, sequences, user_features, items, ActedLists.of(self.acted, sequences))

    def changed_from(self, row: int, seed: int) -> "World":
        """Other items and labels at this row and all later ones of its user, and in all rows of the other users."""
        rng = np.random.default_rng(seed)
        own = (self.rows.users == self.rows.users[row]) & (np.arange(len(self.rows.users)) < row)
        items = np.where(own, self.rows.items, rng.integers(1, ITEMS, len(own)))
        return replace(
            self, rows=replace(self.rows, items=items, labels=np.where(own, self.rows.labels, 1).astype(np.uint8))
        )

    def lists(self, funnel: Funnel) -> TrainingLists:
        return make_lists(self.impressions, funnel, self.block)


def a_world() -> World:
    rng = np.random.default_rng(4)
    users = np.repeat(np.arange(1, USERS), LENGTHS)
    items = np.concatenate([rng.permutation(ITEMS - 1)[:length] + 1 for length in LENGTHS])
    labels = (rng.random(len(users)) < 0.6).astype(np.uint8)
    place, total = (np.concatenate([f(length) for length in LENGTHS]) for f in (np.arange, lambda n: np.full(n, n)))
    # In the middle of each user's rows, so that some come before the block and some after it; all rows of short ones.
    block = (total < 5) | ((place >= total // 3) & (place < total - 4))
    flags = (rng.random((ITEMS, len(FEATURES.genre_flags))) < 0.2).astype(np.uint8)
    flags[0], flags[2::2] = 0, flags[1::2]
    return World(Interactions(users, items, labels, USERS, ITEMS), flags, block)


def a_funnel(world: World) -> Funnel:
    """Random weights, and counts of the rows outside the block; pairs of items are alike: popularity decides."""
    torch.manual_seed(0)
    rng = np.random.default_rng(2)
    tower = SequenceTower(ITEMS, TowerShape(dim=DIM, heads=2, window=6), torch.randn(ITEMS)).eval()
    with torch.no_grad():
        tower.items[2::2], tower.bias[2::2] = tower.items[1::2], tower.bias[1::2]
    fm = tuple(rng.normal(size=(size, 4)).astype(np.float32) for size in (USERS, ITEMS))
    deepfm = DeepFM(FEATURES, FEATURES.vocabulary_sizes({"userid": USERS, "itemid": ITEMS}), (8,), "dense").eval()
    return Funnel(tower, knowledge_of(world.rows.select(~world.block), tower.item_vectors(), fm), deepfm)


WORLD = a_world()
FUNNEL = a_funnel(WORLD)


@pytest.fixture(scope="module")
def lists() -> TrainingLists:
    return WORLD.lists(FUNNEL)


def rows_before(row: int) -> list[int]:
    return [at for at in range(row) if WORLD.rows.users[at] == WORLD.rows.users[row]]


# --- moments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most_lists", "stride"), [(8_000, STRIDE), (5, 10)])
def test_moments_are_a_users_first_row_of_the_block_and_then_every_stride(
    most_lists: int, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate_lists, "MOST_LISTS", most_lists)
    expected = []
    for user in range(1, USERS):
        expected += np.flatnonzero(WORLD.block & (WORLD.rows.users == user))[::stride].tolist()
    assert 45 < WORLD.block.sum() <= 50
    assert moments(WORLD.block, WORLD.impressions.sequences).tolist() == expected


MOMENTS = moments(WORLD.block, WORLD.impressions.sequences).tolist()


# --- lists -----------------------------------------------------------------------------------------------------------


def test_candidates_are_what_the_user_had_not_seen(lists: TrainingLists) -> None:
    """The catalogue is smaller than a list, so that a user with a vector gets all of it; without one, nothing."""
    assert lists.users.tolist() == WORLD.rows.users[MOMENTS].tolist()
    for row, candidates in zip(MOMENTS, lists.candidates.tolist(), strict=True):
        seen = set(WORLD.rows.items[rows_before(row)].tolist())
        there = [item for item in candidates if item]
        assert sorted(there) == (sorted(set(range(1, ITEMS)) - seen) if seen else [])
        assert candidates == there + [0] * (len(candidates) - len(there))


def test_labels_are_the_positives_among_the_next_rows_of_the_block(lists: TrainingLists) -> None:
    sizes = set()
    for row, candidates, labels, relevant in zip(
        MOMENTS, lists.candidates.tolist(), lists.labels.tolist(), lists.relevant.tolist(), strict=True
    ):
        following = [
            at
            for at in range(row, min(row + NEXT, len(WORLD.block)))
            if WORLD.block[at] and WORLD.rows.users[at] == WORLD.rows.users[row]
        ]
        liked = {int(WORLD.rows.items[at]) for at in following if WORLD.rows.labels[at]}
        assert relevant == len(liked)
        assert {item for item, label in zip(candidates, labels, strict=True) if label} == liked & set(candidates)
        sizes.add(len(following))
    assert max(sizes) == NEXT and len(sizes) > 2  # some lists end with the block
    assert (lists.relevant > lists.labels.numpy().sum(axis=1)).any()  # where nothing is recalled, all is missed


def test_a_list_has_the_features_of_its_moment(lists: TrainingLists) -> None:
    """List by list, from the user's rows before it alone."""
    impressions, knowledge = WORLD.impressions, FUNNEL.knowledge
    ranker = Ranker.unfitted(FUNNEL.deepfm, CandidateKnowledge(knowledge))
    popularity_rank = np.array(
        [sorted(range(1, ITEMS), key=lambda i: (-knowledge.positives[i], i)).index(i) for i in range(1, ITEMS)]
    )
    flags, by_term = WORLD.flags[1:], 0
    for at, row in enumerate(MOMENTS):
        before = rows_before(row)
        seen = np.isin(np.arange(1, ITEMS), WORLD.rows.items[before])[None]
        user = impressions.user_features[row]
        liked = liked_genres(user[FEATURES.history_places].astype(np.uint8)[None])
        last = [(WORLD.rows.items[i], WORLD.rows.labels[i]) for i in before][-RANKER_IMPRESSIONS:]
        recent, kinds = np.array([(0, 0)] * (RANKER_IMPRESSIONS - len(last)) + last, np.int64).T.copy()
        with torch.no_grad():
            vector = FUNNEL.tower(*(torch.from_numpy(part[None, -6:]) for part in (recent, kinds))).numpy()
        found = recall_on_arrays(vector * bool(before), knowledge.vectors[1:], liked, flags, seen, popularity_rank)
        candidates = np.where(found.present, found.items + 1, 0)
        recalled = found.scores, found.by_term, found.by_vector
        inputs = ranking_inputs(
            FEATURES, user[None], impressions.items[candidates], recalled, (recent[None], kinds[None])
        )
        with torch.no_grad():
            expected = ranker.features(*map(torch.from_numpy, inputs))
        assert lists.candidates[at].tolist() == candidates[0].tolist()
        assert lists.recent[at].tolist() == recent.tolist() and lists.liked[at].tolist() == kinds.tolist()
        np.testing.assert_allclose(lists.features[at], expected[0], rtol=1e-4, atol=1e-4)
        by_term += int(found.by_term.sum())
    assert by_term > 20 and lists.features.isfinite().all()


def test_nothing_at_or_after_the_moment_and_nothing_of_other_users_is_in_a_list(lists: TrainingLists) -> None:
    """The labels alone follow what comes after; what came before is in the features."""
    told = 0
    for at, row in enumerate(MOMENTS):
        changed = WORLD.changed_from(row, seed=row).lists(FUNNEL)
        assert lists.candidates[at].tolist() == changed.candidates[at].tolist()
        assert lists.recent[at].tolist() == changed.recent[at].tolist()
        assert lists.liked[at].tolist() == changed.liked[at].tolist()
        np.testing.assert_allclose(lists.features[at], changed.features[at], rtol=1e-5, atol=1e-5)
        told += lists.labels[at].tolist() != changed.labels[at].tolist()
        if rows_before(row):
            earlier = WORLD.changed_from(row - 1, seed=row).lists(FUNNEL)
            assert lists.recent[at].tolist() != earlier.recent[at].tolist()
            assert not torch.allclose(lists.features[at], earlier.features[at], atol=1e-3)
    assert told > len(MOMENTS) / 2


def test_lists_do_not_depend_on_how_many_are_made_at_a_time(
    lists: TrainingLists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate_lists, "LISTS_AT_A_TIME", 2)
    for name, values in vars(WORLD.lists(FUNNEL)).items():
        np.testing.assert_allclose(values, getattr(lists, name), rtol=1e-5, atol=1e-5, err_msg=name)


def test_an_empty_block_has_no_lists() -> None:
    empty = make_lists(WORLD.impressions, FUNNEL, np.zeros_like(WORLD.block))
    assert len(empty.users) == len(empty.features) == len(empty.labels) == 0


# --- lists that were shown -------------------------------------------------------------------------------------------


USER = 3  # with the most rows
OWN = np.flatnonzero(WORLD.rows.users == USER)
FIRST = int(np.flatnonzero(WORLD.block & (WORLD.rows.users == USER))[0])  # the user's first row of the block
LAST = int(np.flatnonzero(WORLD.block & (WORLD.rows.users == USER))[-1])
UNRATED = sorted(set(range(1, ITEMS)) - set(WORLD.rows.items[OWN].tolist()))
# A list that rows of the block and one after it answer, and one that no impression answers.
ANSWERS = [FIRST + 1, FIRST + 2, LAST + 1]
SEEN = [UNRATED[0], *WORLD.rows.items[ANSWERS].tolist(), UNRATED[1]]
SHOWN = replace(
    WORLD,
    acted=pa.table(
        [[0] * 5 + [1] * 2, [USER] * 7, [*SEEN, UNRATED[0], UNRATED[1]], [0, 1, 1, 1, 0, 0, 1]],
        schema=catalogue.ACTED_LISTS.present_schema,
    ),
)


def test_positives_are_what_was_found_alone_until_a_list_was_acted_on(lists: TrainingLists) -> None:
    found = SHOWN.lists(FUNNEL)
    own, before = (
        {row: at for at, row in enumerate(rows) if WORLD.rows.users[row] == USER}
        for rows in (moments(SHOWN.block & ~SHOWN.impressions.acted.answers, SHOWN.impressions.sequences), MOMENTS)
    )
    assert list(own) == [FIRST, *range(FIRST + 3, LAST + 1, STRIDE)]
    for row, at in own.items():
        end = min(row + NEXT, FIRST + 1 if row == FIRST else LAST + 1)
        liked = {int(WORLD.rows.items[i]) for i in range(row, end) if WORLD.rows.labels[i]}
        assert set(found.candidates[at][found.labels[at]].tolist()) == liked & set(found.candidates[at].tolist())
        assert found.relevant[at] == len(liked)
        if row in before:
            assert torch.equal(found.candidates[at], lists.candidates[before[row]])
            assert torch.equal(found.features[at], lists.features[before[row]])
    others = found.users != USER, lists.users != USER
    for name in vars(lists):
        assert (getattr(found, name)[others[0]] == getattr(lists, name)[others[1]]).all()


def test_a_list_acted_on_has_what_was_seen_of_it_for_candidates() -> None:
    found = lists_acted_on(SHOWN.impressions, FUNNEL, SHOWN.block)
    assert found.users.tolist() == [USER]
    there = found.candidates[0][found.candidates[0] > 0].tolist()
    # That the user looked further, and what they found there, is known only later.
    assert sorted(there) == sorted(SEEN[:3])
    liked = {int(WORLD.rows.items[i]) for i in ANSWERS[:2] if WORLD.rows.labels[i]}
    assert set(found.candidates[0][found.labels[0]].tolist()) == liked and found.relevant.tolist() == [len(liked)]
    # Of the moment before the first row that answers it.
    assert found.recent[0, -1] == WORLD.rows.items[FIRST] and found.features.isfinite().all()
    assert not len(lists_acted_on(WORLD.impressions, FUNNEL, WORLD.block).users)
    assert not len(lists_acted_on(SHOWN.impressions, FUNNEL, WORLD.rows.users == USER + 1).users)


def test_lists_are_joined_in_order(lists: TrainingLists) -> None:
    others = lists_acted_on(SHOWN.impressions, FUNNEL, SHOWN.block)
    both = lists.joined(others)
    place = int((lists.users <= USER).sum())  # behind the other lists of its user
    for name, values in vars(both).items():
        rest = np.delete(np.arange(len(both.users)), place)
        assert (values[rest] == getattr(lists, name)).all() and (values[place] == getattr(others, name)[0]).all()
    assert lists.joined(others.select(np.array([False]))) is lists


def test_lists_acted_on_are_thinned_evenly() -> None:
    acted = SHOWN.impressions.acted
    many = replace(acted, rows=np.array([FIRST, FIRST + 1, FIRST + 2, LAST, LAST + 1]))
    assert many.within(SHOWN.block, 9).tolist() == [0, 1, 2, 3] and many.within(SHOWN.block, 2).tolist() == [0, 2]


def test_impressions_are_read_by_item_index() -> None:
    """Whatever the order of the table; an item that no offline row holds has the unknown one's index and no row."""
    sequences = WORLD.impressions.sequences
    frame = pa.table({name: np.full(len(sequences.users), at) for at, name in enumerate(FEATURES.user_columns)})
    indices = np.array([2, 0, ITEMS - 1])
    features = {name: indices * 10 + at for at, name in enumerate(FEATURES.item_columns)} | {Column.ITEM_INDEX: indices}
    found = Impressions.load(FEATURES, sequences, frame, pa.table(features), WORLD.acted)
    assert (found.user_features == np.arange(len(FEATURES.user_columns))).all() and found.sequences is sequences
    expected = np.zeros((ITEMS, len(FEATURES.item_columns)), np.int64)
    for row in (0, 2):
        expected[indices[row]] = [features[name][row] for name in FEATURES.item_columns]
    assert (found.items == expected).all()
