"""Shadow mode: once a list is sent, another version of the ranking model scores what it was made of, for the log.

A version is tried on real requests in this way before any user sees a list of it. One thread a worker process does it,
so that no answer waits for it; where it falls behind, lists are logged without a shadow, and counted.
"""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace

from online.callers.types import ServiceUnavailable
from online.recommendation import Recommendation
from online.shown import Log, Shadow, Shown

logger = logging.getLogger(__name__)

WAITING = 100  # lists that wait at most, for some milliseconds each
CLOSING_SECONDS = 1.0

SCORED, FAILED, DROPPED = "scored", "failed", "dropped"


class Shadows:
    """A log before the log: gives those lists a shadow whose arms name a version for it, and hands all of them on."""

    def __init__(
        self, score: Callable[[Recommendation, str], Shadow | None], log: Log, count: Callable[[str], None]
    ) -> None:
        """Begins to score.

        Args:
            score: the shadow of a list by a version; None where the list has no candidates to score.
            log: gets the lists. Whoever closes this one closes it.
            count: is told that a shadow was SCORED, FAILED or DROPPED.
        """
        self._score, self._log, self._count = score, log, count
        self._queue: queue.Queue[Shown | None] = queue.Queue(WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="shadows", daemon=True)
        self._thread.start()

    def put(self, shown: Shown) -> None:
        """Hands over a list; returns at once, whatever becomes of it."""
        if shown.recommendation.arms.settings.shadow_version is None:
            self._log.put(shown)
            return
        try:
            self._queue.put_nowait(shown)
        except queue.Full:
            self._pass_by(shown)

    def close(self) -> None:
        """Hands on what waits, without a shadow, and closes the log."""
        self._closing.set()
        self._hand_on()
        self._queue.put(None)
        self._thread.join(CLOSING_SECONDS)  # of one that is being scored
        self._log.close()

    def _pass_by(self, shown: Shown) -> None:
        """Logs a list without its shadow."""
        self._count(DROPPED)
        self._log.put(shown)

    def _hand_on(self) -> None:
        """Empties the queue."""
        with contextlib.suppress(queue.Empty):
            while True:
                if shown := self._queue.get_nowait():
                    self._pass_by(shown)

    def _keep(self) -> None:
        while (shown := self._queue.get()) is not None:
            if self._closing.is_set():
                self._pass_by(shown)
            else:
                self._log.put(replace(shown, shadow=self._shadow(shown.recommendation)))

    def _shadow(self, recommendation: Recommendation) -> Shadow | None:
        try:
            shadow = self._score(recommendation, recommendation.arms.settings.shadow_version or "")
        except ServiceUnavailable as error:
            self._count(FAILED)
            logger.warning("a list has no shadow: %s", error)
            return None
        except Exception:  # a thread that ends silently would hold all lists back for ever
            self._count(FAILED)
            logger.exception("a list has no shadow")
            return None
        if shadow:
            self._count(SCORED)
        return shadow
