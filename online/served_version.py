"""Follows which version of the ranking model is served, so that a request knows it without asking.

In a thread of its own: what refreshes the items' features may be at it for minutes. A request takes the version with
its snapshot, at its beginning, whatever it needs of Redis and from whichever node of a cluster; it goes by that version
to its end. A version that is promoted is used within LOOK_SECONDS by every process.
"""

import logging
import threading

from online.breakers import RETRY_SECONDS, Breakers
from online.callers.types import ServiceUnavailable
from online.roles import REDIS, PromotedVersion

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.25


class ServedVersion:
    """Holds the version that was served when it was last known."""

    def __init__(self, promoted: PromotedVersion, breakers: Breakers) -> None:
        """Looks once."""
        self._promoted, self._breakers = promoted, breakers
        self._closed = threading.Event()
        self._version = ""
        self.look()

    @property
    def version(self) -> str:
        """The version; empty where none was ever promoted, and the newest is served."""
        return self._version

    def look(self) -> bool:
        """Asks which version is served; while nobody can tell, it stays the one before. Returns whether it is known."""
        try:
            with self._breakers.use(REDIS):
                version = self._promoted.served()
        except ServiceUnavailable:
            return False  # the breaker has logged it
        if version != self._version:
            logger.info("version %s of the ranking model is served", version or "newest")
            self._version = version
        return True

    def start(self) -> None:
        """Begins to look, every LOOK_SECONDS."""
        threading.Thread(target=self._keep, name="served version", daemon=True).start()

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()

    def _keep(self) -> None:
        seconds = LOOK_SECONDS
        while not self._closed.wait(seconds):
            try:
                seconds = LOOK_SECONDS if self.look() else RETRY_SECONDS
            except Exception:  # a thread that ends silently would leave the version as it is for ever
                logger.exception("the served version is not known")
