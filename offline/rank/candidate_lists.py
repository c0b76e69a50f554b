"""The lists that the funnel would have served at moments of the past, labelled by what the users liked next.

A moment is a row of `valid` or of `test`; recall, DeepFM and all counts were fitted to earlier rows alone, so that what
makes the candidates has not seen what labels them. Recall is that of the server (array_recall.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch

from data_exchange_center import user_state
from data_exchange_center.arrays import BoolArray, Int64Array, UInt8Array
from data_exchange_center.assembler import ranking_inputs
from data_exchange_center.columns import Column
from data_exchange_center.features import FeatureSet
from data_exchange_center.limits import RANKER_IMPRESSIONS
from data_exchange_center.tables import to_matrix
from data_exchange_center.user_state import liked_genres
from offline.distributed import Share
from offline.rank.acted_lists import ActedLists
from offline.rank.deepfm import DeepFM
from offline.rank.item_knowledge import ItemKnowledge
from offline.rank.ranker import LIKE_FEATURES, CandidateKnowledge, Ranker
from offline.rank.ranker_training import TrainingLists
from offline.recall.array_recall import CandidateBatch, recall_on_arrays
from offline.recall.sequence_tower import SequenceTower
from offline.recall.sequence_training import user_vectors
from offline.recall.sequences import Sequences

NEXT = 10  # a list's positives are what the user liked among so many next impressions
STRIDE = 5  # impressions of a user from one list to the next, at least
MOST_LISTS = 8_000  # of a block, about; more impressions mean wider strides, and no more time
LISTS_AT_A_TIME = 32
ROWS_AT_A_TIME = 1024


@dataclass(frozen=True)
class Impressions:
    """All n offline impressions in the split's order, with the features of the moment before each.

    Attributes:
        features: of the data set.
        sequences: user, item and label of each.
        user_features: [n, 40] values of `features.user_columns`.
        items: [vocabulary, 19] values of `features.item_columns` by item_index; zeros for the unknown one.
        acted: the lists that some of them answer.
    """

    features: FeatureSet
    sequences: Sequences
    user_features: UInt8Array | Int64Array
    items: Int64Array
    acted: ActedLists

    @cached_property
    def flags(self) -> UInt8Array:
        """[vocabulary, genres] the items' genres."""
        return self.items[:, self.features.flag_places].astype(np.uint8)

    @classmethod
    def load(
        cls, features: FeatureSet, sequences: Sequences, frame: pa.Table, item_features: pa.Table, acted: pa.Table
    ) -> "Impressions":
        """From catalogue entries TRAINING_FRAME, ITEM_FEATURES and ACTED_LISTS."""
        items = np.zeros((sequences.item_count, len(features.item_columns)), np.int64)
        items[item_features[Column.ITEM_INDEX].to_numpy()] = to_matrix(item_features, features.item_columns, np.int64)
        items[0] = 0
        users = to_matrix(frame, features.user_columns, np.int32)
        return cls(features, sequences, users, items, ActedLists.of(acted, sequences))


@dataclass(frozen=True)
class Funnel:
    """What makes lists and what is known of their candidates, all fitted to the same rows.

    Attributes:
        tower: makes the user vectors.
        knowledge: holds the item vectors.
        deepfm: makes the logits.
    """

    tower: SequenceTower
    knowledge: ItemKnowledge
    deepfm: DeepFM


def moments(block: BoolArray, sequences: Sequences) -> Int64Array:
    """[l] rows of a block at which a list is made: the first of each run of a user's rows, and then every so many.

    Args:
        block: [n] whether the row belongs to it.
        sequences: the n rows, of several processes those of some users.
    """
    rows = np.flatnonzero(block)
    stride = max(STRIDE, -(-Share.of(len(rows)).total // MOST_LISTS))
    return rows[(np.arange(len(rows)) - _run_starts(rows, sequences)) % stride == 0]


def make_lists(impressions: Impressions, funnel: Funnel, block: BoolArray) -> TrainingLists:
    """The lists of a block of rows, with the features of their candidates.

    A list's positives are what the user found alone, until an impression answers a list that was shown: from there on
    the candidates, and what is liked of them, are others. See acted_lists.py.

    Args:
        impressions: n of them.
        funnel: fitted to rows before the block.
        block: [n] whether the row belongs to it; a user's rows of a block are adjacent.
    """
    sequences, alone = impressions.sequences, block & ~impressions.acted.answers
    at, ends = moments(alone, sequences), _ends(alone, sequences)

    def labelled(part: slice, candidates: Int64Array) -> TrainingLabels:
        rows = at[part]
        following = rows[:, None] + np.arange(NEXT)
        inside = following < ends[rows][:, None]
        following = np.minimum(following, len(sequences.items) - 1)
        relevant = np.where(inside & (sequences.labels[following] == 1), sequences.items[following], -1)
        return _among(candidates, relevant), (relevant >= 0).sum(axis=1), candidates > 0

    return _lists_at(at, impressions, funnel, labelled)


def lists_acted_on(impressions: Impressions, funnel: Funnel, block: BoolArray) -> TrainingLists:
    """The lists that were shown and that rows of a block answer: what was seen of them, as far as it is recalled again.

    Args:
        impressions, funnel, block: as for `make_lists`.
    """
    acted, ends = impressions.acted, _ends(block, impressions.sequences)
    lists = acted.within(block, MOST_LISTS)
    at = acted.rows[lists]

    def labelled(part: slice, candidates: Int64Array) -> TrainingLabels:
        seen, liked = acted.seen(lists[part], ends[at[part]])
        labels = _among(candidates, np.where(liked, seen, -1))
        return labels, liked.sum(axis=1), _among(candidates, np.where(seen > 0, seen, -1))

    return _lists_at(at, impressions, funnel, labelled)


# Of b lists with m candidates: [b, m] positives; [b] how many there are, recalled or not; [b, m] what is a candidate.
TrainingLabels = tuple[BoolArray, Int64Array, BoolArray]


def _among(candidates: Int64Array, items: Int64Array) -> BoolArray:
    """[b, m] whether a candidate is among [b, k] items, of which those below 0 are none."""
    return np.asarray((candidates[:, :, None] == items[:, None, :]).any(axis=2))


def _lists_at(
    at: Int64Array,
    impressions: Impressions,
    funnel: Funnel,
    labelled: Callable[[slice, Int64Array], TrainingLabels],
) -> TrainingLists:
    """The lists at the rows `at`, some at a time; `labelled` takes which of them, and their candidates [b, m]."""
    ranker = Ranker.unfitted(funnel.deepfm, CandidateKnowledge(funnel.knowledge))
    lists: TrainingLists | None = None
    for start in range(0, max(len(at), 1), LISTS_AT_A_TIME):
        part = slice(start, start + LISTS_AT_A_TIME)
        some = _make_block(impressions, funnel, ranker, at[part])
        labels, relevant, is_candidate = labelled(part, some.candidates.numpy())
        some.labels[:] = torch.from_numpy(labels) & (some.candidates > 0)
        some.relevant[:] = relevant
        some.candidates[torch.from_numpy(~is_candidate)] = 0
        # Filled in place: parts that are joined at the end would take twice the memory.
        lists = lists or some.empty(len(at))
        lists.fill(start, some)
    assert lists is not None
    return lists


@torch.no_grad()
def rated_items(impressions: Impressions, funnel: Funnel, rows: Int64Array) -> TrainingLists:
    """Rated items as lists of one, with the like head's features: what users chose to rate, and whether they liked it.

    Args:
        impressions: n of them.
        funnel: fitted to earlier rows.
        rows: [l] which of the impressions.
    """
    ranker, sequences = Ranker.unfitted(funnel.deepfm, CandidateKnowledge(funnel.knowledge)), impressions.sequences
    items = sequences.items[rows][:, None]
    recent, liked = sequences.windows(rows, RANKER_IMPRESSIONS)
    features = torch.zeros(len(rows), 1, LIKE_FEATURES)
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        part = slice(start, start + ROWS_AT_A_TIME)
        nothing = np.zeros(items[part].shape)
        inputs = ranking_inputs(
            impressions.features,
            impressions.user_features[rows[part]],
            impressions.items[items[part]],
            (nothing, nothing > 0, nothing > 0),
            (recent[part].numpy(), liked[part].numpy()),
        )
        features[part] = ranker.features(*map(torch.from_numpy, inputs))[:, :, -LIKE_FEATURES:]
    return TrainingLists(
        users=sequences.users[rows],
        features=features,
        candidates=torch.from_numpy(items),
        recent=recent,
        liked=liked,
        labels=torch.from_numpy(sequences.labels[rows][:, None] == 1),
        relevant=sequences.labels[rows],
        weights=torch.ones(len(rows)),
    )


def _run_starts(rows: Int64Array, sequences: Sequences) -> Int64Array:
    """[r] where among these rows, ascending, the run of each one's begins: of adjacent rows of one user."""
    begins = (np.diff(rows, prepend=-1) != 1) | (np.diff(sequences.users[rows], prepend=-1) != 0)
    return user_state.user_starts(np.cumsum(begins))


def _ends(block: BoolArray, sequences: Sequences) -> Int64Array:
    """[n] row after the last one of the run, for rows of the block."""
    rows = np.flatnonzero(block)
    last = np.zeros(len(block), np.int64)
    if len(rows):
        starts = _run_starts(rows, sequences)
        last[rows] = rows[np.searchsorted(starts, starts, side="right") - 1] + 1
    return last


@torch.no_grad()
def _make_block(impressions: Impressions, funnel: Funnel, ranker: Ranker, rows: Int64Array) -> TrainingLists:
    """The lists at these rows, not labelled yet."""
    sequences = impressions.sequences
    found = _recall(impressions, funnel, rows)
    candidates = np.where(found.present, found.items + 1, 0)
    recent, liked = sequences.windows(rows, RANKER_IMPRESSIONS)
    recalled = found.scores, found.by_term, found.by_vector
    users, items = impressions.user_features[rows], impressions.items[candidates]
    inputs = ranking_inputs(impressions.features, users, items, recalled, (recent.numpy(), liked.numpy()))
    features = ranker.features(*map(torch.from_numpy, inputs))

    return TrainingLists(
        users=sequences.users[rows],
        features=features,
        candidates=torch.from_numpy(candidates),
        recent=recent,
        liked=liked,
        labels=torch.zeros(candidates.shape, dtype=torch.bool),
        relevant=np.zeros(len(rows), np.int64),
        weights=torch.ones(len(rows)),
    )


def _recall(impressions: Impressions, funnel: Funnel, rows: Int64Array) -> CandidateBatch:
    """What the server would have recalled just before these rows."""
    sequences, knowledge = impressions.sequences, funnel.knowledge
    vectors = user_vectors(funnel.tower, *sequences.windows(rows, funnel.tower.shape.window))
    # Without an impression there is no vector, and the server would have found popular items.
    vectors[sequences.start[rows] == rows] = 0
    history = impressions.user_features[rows][:, impressions.features.history_places]
    seen = np.zeros((len(rows), sequences.item_count), bool)
    which, before = user_state.rows_between(sequences.start[rows], rows)
    seen[which, sequences.items[before]] = True
    liked = liked_genres(history.astype(np.uint8))
    return recall_on_arrays(
        vectors, knowledge.vectors[1:], liked, impressions.flags[1:], seen[:, 1:], knowledge.popularity_rank[1:]
    )
