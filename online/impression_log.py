"""The log of the lists that were shown: written in the background, so that no answer waits for it or fails with it.

A request hands over what it knows and goes on. One thread a worker process makes entries of it and sends them in
pipelines. Where the queue is full or Redis is away, entries are dropped and counted.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from data_exchange_center.limits import RANKER_IMPRESSIONS
from data_exchange_center.log_entries import ShownList, feature_digests, six_digits
from online.callers.types import ServiceUnavailable
from online.shown import Shown

logger = logging.getLogger(__name__)

WAITING = 2_000  # lists that wait at most; each keeps its candidates in memory, some 15 KB
PAUSE = 0.25  # seconds between two pipelines: a thread that works without end would be in the requests' way
AT_A_TIME = 200  # lists in a pipeline
CLOSING_SECONDS = 3.0  # in which what waits is written before the process ends

WRITTEN, DROPPED = "written", "dropped"


def entry_of(shown: Shown) -> ShownList:
    """A list as it is logged."""
    recommendation, shadow = shown.recommendation, shown.shadow
    items = recommendation.items
    digests: list[str] = []
    is_ranked = any(one.ranking for one in recommendation.drafted_from or (recommendation,))
    if is_ranked and recommendation.user_features is not None:
        features = recommendation.snapshot.item_features.look_up(np.array([item.itemid for item in items]))
        digests = feature_digests(recommendation.user_features, features)
    recent = recommendation.user.recent[-RANKER_IMPRESSIONS:] if recommendation.user else ()
    return ShownList.model_construct(  # unchecked: the types are right, and the drain checks what it reads
        request_id=shown.request_id,
        time=shown.time,
        userid=shown.userid,
        items=[item.itemid for item in items],
        scores=six_digits([item.score for item in items]),
        recall_scores=six_digits([item.recall_score for item in items]),
        recalled_by=["+".join(item.recalled_by) for item in items],
        features=digests,
        recent_items=[impression.itemid for impression in recent],
        recent_ratings=[impression.rating for impression in recent],
        model_version=recommendation.model_version,
        load=recommendation.snapshot.data.load_digest,
        arm=recommendation.arms.label,
        propensity=recommendation.arms.propensity,
        teams=[recommendation.teams.get(item.itemid, "") for item in items] if recommendation.teams else [],
        shadow_version=shadow.version if shadow else None,
        shadow_scores=six_digits(shadow.scores) if shadow else [],
        shadow_positions=shadow.positions if shadow else [],
        degraded=recommendation.degraded,
        fallback=recommendation.fallback,
    )


class ImpressionLog:
    """Takes lists from all threads of a process, and writes them in one of its own."""

    def __init__(
        self, append: Callable[[list[str]], None], count: Callable[[str, int], None], pause: float = PAUSE
    ) -> None:
        """Begins to write.

        Args:
            append: logs some entries; raises ServiceUnavailable where it cannot.
            count: is told how many entries were WRITTEN, and how many DROPPED.
            pause: seconds between two writings.
        """
        self._append, self._count, self._pause = append, count, pause
        self._queue: queue.Queue[Shown] = queue.Queue(WAITING)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="impression log", daemon=True)
        self._thread.start()

    def put(self, shown: Shown) -> None:
        """Hands over a list; returns at once, whatever becomes of it."""
        try:
            self._queue.put_nowait(shown)
        except queue.Full:
            self._count(DROPPED, 1)

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Writes what waits, for so many seconds at most, and ends the thread."""
        self._closed.set()
        self._thread.join(seconds)
        self._count(DROPPED, self._queue.qsize())

    def _keep(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._closed.wait(self._pause)  # once more after it is closed
            while waiting := self._taken():
                self._write(waiting)

    def _taken(self) -> list[Shown]:
        taken: list[Shown] = []
        try:
            while len(taken) < AT_A_TIME:
                taken.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return taken

    def _write(self, waiting: Sequence[Shown]) -> None:
        try:
            self._append([self._text(shown) for shown in waiting])
            self._count(WRITTEN, len(waiting))
        except ServiceUnavailable as error:
            self._count(DROPPED, len(waiting))
            logger.warning("%d lists are not logged: %s", len(waiting), error)
        except Exception:  # a thread that ends silently would log nothing for ever
            self._count(DROPPED, len(waiting))
            logger.exception("%d lists are not logged", len(waiting))

    @staticmethod
    def _text(shown: Shown) -> str:
        time.sleep(0)  # lets the requests' threads go on, which may otherwise wait for 5 ms
        return entry_of(shown).model_dump_json(exclude_defaults=True)
