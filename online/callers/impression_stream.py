"""Where the server logs the lists that it showed: a Redis Stream, of one Redis or of a cluster."""

from collections.abc import Sequence

import redis

from data_exchange_center.settings import Settings
from online.callers.redis_stores import redis_client
from online.callers.redis_streams import append_lists
from online.callers.redis_values import FAULTS, fault_of


class ImpressionStream:
    """Appends to the stream; for one thread."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        """Opens no connection yet; `timeout` is in seconds, for connecting and for each response."""
        self._settings, self._timeout = settings, timeout
        self._client: redis.Redis | None = None

    def append(self, lists: Sequence[str]) -> None:
        """Logs lists, each as JSON, in one round trip.

        Raises:
            ServiceUnavailable: Redis does not respond in time; some may have been logged.
        """
        try:
            if self._client is None:
                self._client = redis_client(self._settings, self._timeout)
            append_lists(lists, self._settings.impression_log_length, self._client)
        except FAULTS as error:
            self._client = None  # of a cluster, the next one looks again at which node has what
            raise fault_of(error) from error
