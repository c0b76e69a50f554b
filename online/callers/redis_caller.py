"""Redis: a user's terms, vector and filter in one round trip."""

import json
from collections.abc import Sequence

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from data_exchange_center.serving_names import REDIS_DATABASE, REDIS_FILTER, REDIS_TERM, REDIS_VECTOR
from data_exchange_center.settings import Settings
from online.callers.types import ServiceUnavailable, UserRecall

KEYS = (REDIS_TERM, REDIS_VECTOR, REDIS_FILTER)


class RedisCaller:
    """Reads what offline_to_online/recall/s1_user_to_redis.py wrote."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        """Opens no connection yet; `timeout` is in seconds, for connecting and for each answer."""
        self._client = redis.Redis(
            host=settings.redis_host,
            port=settings.redis_port,
            db=REDIS_DATABASE,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),  # the default retries for seconds, and a late answer is of no use
        )

    def users(self, userids: Sequence[int]) -> list[UserRecall | None]:
        """The recall data of each user, None for one that is not known.

        Raises:
            ServiceUnavailable: Redis does not answer in time, or holds something else under these keys.
        """
        try:
            values: list[bytes | None] = self._client.mget(  # type: ignore[assignment]
                [key.format(userid) for userid in userids for key in KEYS]
            )
            parts = [json.loads(value) if value is not None else None for value in values]
            return [
                UserRecall(tuple(term), tuple(vector), tuple(seen))
                if term is not None and vector is not None and seen is not None
                else None
                for term, vector, seen in zip(parts[0::3], parts[1::3], parts[2::3], strict=True)
            ]
        except (redis.RedisError, ValueError, TypeError) as error:
            raise ServiceUnavailable("redis", error) from error

    def user(self, userid: int) -> UserRecall | None:
        """The recall data of one user; see `users`."""
        return self.users([userid])[0]
