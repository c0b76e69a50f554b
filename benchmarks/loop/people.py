"""The generator's users, who act: they look at lists, and go their own way, by their true tastes.

What is true of them stands in the data set's `oracle.npz`. They go on from where it leaves them: what they rate comes
into their state, so that the oracle can be asked again what they are expected to like next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from data_exchange_center.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from offline.preprocess.synthetic import step, walk
from offline.preprocess.synthetic.oracle import Truth, oracle_scores
from offline.preprocess.synthetic.step import Tables, Walkers

# A rating by how far the utility is above or below what counts as liked; 4 begins at 0.
RATINGS = np.array([-1.7, -0.9, 0.0, 0.8])
ATTENTION = 0.5  # a list's place p is looked at with probability p ** -ATTENTION
LIST_LENGTH = 50

Lists = Mapping[int, Sequence[int]]  # items of each user, best first


@dataclass(frozen=True)
class Rated:
    """What users rated in turn: n rows, each user's in order.

    Attributes:
        user, item: [n] rows of the truth.
        rating: [n] 1 to 5.
        position: [n] in the list that they were shown, from 1; 0 for what they found themselves.
    """

    user: Int64Array
    item: Int64Array
    rating: Int64Array
    position: Int64Array

    @property
    def liked(self) -> BoolArray:
        """[n] whether the rating is a positive."""
        return self.rating > len(RATINGS) - 1


class People:
    """All users of a generated data set, from its end on."""

    def __init__(self, truth: Truth, last_rows: Mapping[int, Sequence[int]], seed: int, panel: int = 0) -> None:
        """Begins where the data end.

        Args:
            truth: of the data set, HELD_OUT ratings before the end.
            last_rows: the items of those last ratings, by userid.
            seed: of all that they do.
            panel: how many users, drawn at random, only ever look at lists and rate nothing more.
        """
        self._rng, self._world = np.random.default_rng(seed), truth.world()
        users, items = len(truth.userid), len(truth.itemid)
        self.in_panel = np.zeros(users, bool)
        self.in_panel[self._rng.permutation(users)[:panel]] = True
        own = [truth.rated[a:b] for a, b in zip(truth.rated_until[:-1], truth.rated_until[1:], strict=True)]
        since = [np.searchsorted(truth.itemid, last_rows.get(user, ())) for user in truth.userid.tolist()]
        self._rated = [np.concatenate(rows).astype(np.int64) for rows in zip(own, since, strict=True)]
        self.truth = truth
        seen = np.zeros((users, items), bool)
        for user, rows in enumerate(self._rated):
            seen[user, rows] = True
        self._at = Walkers(np.arange(users), np.array([rows[-1] for rows in self._rated]), truth.place.copy(), seen)
        self._favourites, self._mood = truth.favourites.copy(), truth.mood.copy()
        self._affinity = step.affinities(truth.user_taste, self._world.items)
        self._lasting = step.lasting_preferences(self._world.items, self._affinity)
        self._tables = Tables.empty(users, items)
        self._prefer(np.arange(users))

    @property
    def userids(self) -> Int64Array:
        """[users] ascending."""
        return self.truth.userid

    def _prefer(self, users: Int64Array) -> None:
        lasting = self._lasting[users]
        self._tables.set_rows(users, step.add_favourites(self._world, lasting, self._favourites[users]))

    def utilities(self, user: Int64Array, item: Int64Array) -> Float64Array:
        """[n] how much users like items at present, above what counts as liked and without chance."""
        lasting = self.truth.leniency[user] + self._world.items.quality[item]
        lasting = lasting + walk.LIKED_BY_TASTE * self._affinity[user, item]
        suits = self._world.genre_share[self._favourites[user], item[:, None]].sum(1)
        return lasting + walk.phase_utility(suits, self._mood[user]) - self.truth.liked_from

    def _ratings(self, utility: Float64Array) -> Int64Array:
        noisy = utility + walk.NOISE * self._rng.normal(size=len(utility))
        return np.searchsorted(RATINGS, noisy, side="right") + 1

    def go_on(self, steps: int) -> Rated:
        """What each user who acts rates next by themselves, as the generator has it; it counts as rated from now on."""
        users = np.flatnonzero(~self.in_panel)
        ends = walk.phase_end_probability(self.truth.counts[users])
        at = self._at.of(users)
        items = np.empty((len(users), steps), np.int64)
        utilities = np.empty((len(users), steps))
        for now in range(steps):
            ended = self._rng.random(len(users)) < ends
            at.place[ended] = -1
            over = users[ended]
            if len(over):
                self._favourites[over] = step.draw_favourites(self._rng, len(over))
                self._mood[over] = walk.MOOD * self._rng.normal(size=len(over))
                self._prefer(over)
            step.step(self._rng, self._world, self._tables, at, step.options(self._world, self._tables, at))
            items[:, now] = at.last
            utilities[:, now] = self.utilities(users, at.last)
        self._at.last[users], self._at.place[users] = at.last, at.place
        user, item = np.repeat(users, steps), items.ravel()
        self._take(user, item)
        return Rated(user, item, self._ratings(utilities.ravel()), np.zeros(len(user), np.int64))

    def look(self, lists: Lists) -> Rated:
        """What each user who acts rates of the list that they are shown, by userid; it counts as rated from now on.

        They look at a place the less likely the further down it is, and choose what they see as likely as they will
        like it.
        """
        userids = zip(self.userids.tolist(), self.in_panel.tolist(), strict=True)
        shown = [() if in_panel else lists.get(userid, ()) for userid, in_panel in userids]
        user = np.repeat(np.arange(len(shown)), [len(own) for own in shown])
        item = np.searchsorted(self.truth.itemid, np.concatenate([np.array(own, np.int64) for own in shown]))
        position = np.concatenate([np.arange(1, len(own) + 1) for own in shown])
        utility = self.utilities(user, item)
        looked_at = self._rng.random(len(user)) < position.astype(np.float64) ** -ATTENTION
        acted = looked_at & (self._rng.random(len(user)) < ndtr(utility / walk.NOISE))
        acted &= ~self._at.seen[user, item]
        rows = np.flatnonzero(acted)
        self._take(user[rows], item[rows])
        return Rated(user[rows], item[rows], self._ratings(utility[rows]), position[rows])

    def _take(self, user: Int64Array, item: Int64Array) -> None:
        self._at.seen[user, item] = True
        for one, rows in zip(*_by_user(user, item), strict=True):
            self._rated[one] = np.concatenate([self._rated[one], rows])

    def expected(self) -> Float32Array:
        """[users, items] how often each item is expected to be rated and liked within the next HELD_OUT ratings."""
        truth = replace(
            self.truth,
            place=self._at.place,
            favourites=self._favourites,
            mood=self._mood,
            rated=np.concatenate(self._rated).astype(np.int32),
            rated_until=np.cumsum([0, *map(len, self._rated)]),
        )
        scores = np.zeros((len(self.userids), len(self.truth.itemid)), np.float32)
        for group in (self.in_panel, ~self.in_panel):  # apart, lest the panel's random numbers depend on who acts
            rows = np.flatnonzero(group)
            for userids, some in oracle_scores(truth, self.userids[rows]):
                scores[np.searchsorted(self.userids, userids)] = some
        return scores

    def best(self, scores: Float32Array | Int64Array) -> Lists:
        """Each user's unseen items with the highest scores, by [users, items], or by [items] the same for all."""
        top = np.argsort(np.where(self._at.seen, 1, -scores), axis=1, kind="stable")[:, :LIST_LENGTH]
        return dict(zip(self.userids.tolist(), self.truth.itemid[top].tolist(), strict=True))

    def found(self, lists: Lists, expected: Float32Array) -> Float64Array:
        """[users] the share of a user's expected likes that stands in their list: the expectation of its Recall.

        Args:
            lists: by userid.
            expected: of `expected`, when the lists were made.
        """
        shares = np.zeros(len(self.userids))
        for row, user in enumerate(self.userids.tolist()):
            places = np.searchsorted(self.truth.itemid, np.array(lists.get(user, ()), np.int64)[:LIST_LENGTH])
            shares[row] = expected[row, places].sum() / expected[row].sum()
        return shares


def _by_user(user: Int64Array, item: Int64Array) -> tuple[list[int], list[Int64Array]]:
    """The users that occur, and the items of each."""
    users, starts = np.unique(user, return_index=True)
    return users.tolist(), np.split(item, starts[1:])
