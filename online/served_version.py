"""Follows which version of the ranking model is served, so that a request knows it without asking.

In a thread of its own: what refreshes the items' features may be at it for minutes. A request takes the version with
its snapshot, at its beginning, whatever it needs of Redis and from whichever node of a cluster; it goes by that version
to its end. A version that is promoted is used within LOOK_SECONDS by every process.
"""

import logging
import threading

from online.breakers import Breakers
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

    def look(self) -> None:
        """Asks which version is served; while nobody can tell, it stays the one before."""
        try:
            with self._breakers.use(REDIS):
                version = self._promoted.served()
        except ServiceUnavailable:
            return  # the breaker has logged it
        if version != self._version:
            logger.info("version %s of the ranking model is served", version or "newest")
            self._version = version

    def start(self) -> None:
        """Begins to look, every LOOK_SECONDS."""
        threading.Thread(target=self._keep, name="served version", daemon=True).start()

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()

    def _keep(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:  # a thread that ends silently would leave the version as it is for ever
                logger.exception("the served version is not known")
