"""Redis: which versions of the ranking model were promoted, of which the last one is served."""

from collections.abc import Callable, Sequence
from typing import Any

import redis
from pydantic import TypeAdapter
from redis.exceptions import RedisClusterException

from data_exchange_center.serving_names import REDIS_PROMOTED
from data_exchange_center.settings import Settings
from online.callers.redis_stores import redis_client
from online.callers.redis_values import FAULTS, fault_of
from online.callers.types import NodeUnavailable

_versions = TypeAdapter(tuple[int, ...])

# Another promotion may have come in between: then nothing changes.
REPLACE = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class PromotedVersions:
    """Reads and changes the list of promoted versions, in one Redis or in a cluster."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        """Opens no connection yet; `timeout` is in seconds, for connecting and for each response."""
        self._settings, self._timeout = settings, timeout
        self._client: redis.Redis | None = None

    def _ask(self, operation: Callable[[Any], Any]) -> Any:
        """The operation's result on a client that connects when it is first used."""
        try:
            if self._client is None:
                self._client = redis_client(self._settings, self._timeout)
            return operation(self._client)
        except RedisClusterException as error:
            raise NodeUnavailable("redis", error) from error
        except FAULTS as error:
            if self._settings.is_cluster and isinstance(error, redis.ConnectionError | redis.TimeoutError):
                raise NodeUnavailable("redis", error) from error
            raise fault_of(error) from error

    def promoted(self) -> tuple[int, ...]:
        """The promoted versions, oldest first; the last one is served. None where none was ever promoted.

        Raises:
            ServiceUnavailable: Redis does not respond in time.
            StoreFault: it holds something else under the key.
        """

        def read(client: redis.Redis) -> tuple[int, ...]:
            held: Any = client.get(REDIS_PROMOTED)
            return _versions.validate_json(held) if held else ()

        versions: tuple[int, ...] = self._ask(read)
        return versions

    def served(self) -> str:
        """The version that is served; empty where none was ever promoted, and the newest is served.

        Raises:
            ServiceUnavailable, StoreFault: as `promoted` does.
        """
        versions = self.promoted()
        return str(versions[-1]) if versions else ""

    def replace(self, before: Sequence[int], after: Sequence[int]) -> bool:
        """Replaces the list, unless it has been changed since `before` was read.

        Returns:
            Whether it was replaced.

        Raises:
            ServiceUnavailable: as `promoted` does.
        """
        old, new = (_versions.dump_json(tuple(versions)).decode() if versions else "" for versions in (before, after))
        return bool(self._ask(lambda client: client.eval(REPLACE, 1, REDIS_PROMOTED, old, new)))
