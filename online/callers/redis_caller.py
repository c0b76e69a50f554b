"""Redis: a user's terms, vector, filter and latest impressions in one round trip; and what events change."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple

import pydantic
import redis
from pydantic import TypeAdapter
from redis.backoff import NoBackoff
from redis.retry import Retry

from data_exchange_center.arrays import FloatArray
from data_exchange_center.limits import RANKER_IMPRESSIONS, TOWER_IMPRESSIONS
from data_exchange_center.serving_names import (
    REDIS_DATABASE,
    REDIS_EVENTS,
    REDIS_FILTER,
    REDIS_RECENT,
    REDIS_TERM,
    REDIS_UNPUSHED,
    REDIS_VECTOR,
)
from data_exchange_center.settings import Settings
from online.callers.types import Impression, LiveUser, ServiceUnavailable, UserRecall

KEYS = (REDIS_TERM, REDIS_VECTOR, REDIS_FILTER, REDIS_RECENT)

_terms = TypeAdapter(tuple[str, ...])
_vector = TypeAdapter(tuple[pydantic.FiniteFloat, ...])
_items = TypeAdapter(tuple[int, ...])
_impressions = TypeAdapter(tuple[tuple[int, float, int], ...])
FAULTS = (redis.RedisError, ValueError, TypeError, AttributeError)  # ValidationError is a ValueError


def impressions_json(impressions: Iterable[Impression]) -> str:
    """As stored under REDIS_RECENT."""
    return json.dumps([astuple(impression) for impression in impressions])


def read_impressions(stored: bytes, most: int = TOWER_IMPRESSIONS) -> tuple[Impression, ...]:
    """The last `most` of what is stored under REDIS_RECENT."""
    return tuple(Impression(*values) for values in _impressions.validate_json(stored)[-most:])


def _live_keys(userid: int) -> list[str]:
    """The keys of what events change of a user, the log of the events apart."""
    return [key.format(userid) for key in (REDIS_TERM, REDIS_FILTER, REDIS_RECENT)]


def _user_recall(
    term: bytes | None, vector: bytes | None, seen: bytes | None, recent: bytes | None
) -> UserRecall | None:
    if term is None or seen is None:
        return None
    return UserRecall(
        _terms.validate_json(term),
        _vector.validate_json(vector or b"[]"),
        _items.validate_json(seen),
        read_impressions(recent or b"[]", RANKER_IMPRESSIONS),
    )


class RedisCaller:
    """Reads what offline_to_online/recall/s1_user_to_redis.py wrote, and keeps it up to date with events."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        """Opens no connection yet; `timeout` is in seconds, for connecting and for each response."""
        self._client = redis.Redis(
            host=settings.redis_host,
            port=settings.redis_port,
            db=REDIS_DATABASE,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),  # the default retries for seconds, and a late response is of no use
        )

    def ping(self) -> None:
        """Raises ServiceUnavailable unless Redis responds."""
        try:
            self._client.ping()
        except FAULTS as error:
            raise ServiceUnavailable("redis", error) from error

    def users(self, userids: Sequence[int]) -> list[UserRecall | None]:
        """The recall data of each user, None for one that is not known.

        Raises:
            ServiceUnavailable: Redis does not respond in time, or holds something else under these keys.
        """
        try:
            values: list[bytes | None] = self._client.mget(  # type: ignore[assignment]
                [key.format(userid) for userid in userids for key in KEYS]
            )
            columns = (values[place :: len(KEYS)] for place in range(len(KEYS)))
            return [_user_recall(*parts) for parts in zip(*columns, strict=True)]
        except FAULTS as error:
            raise ServiceUnavailable("redis", error) from error

    def user(self, userid: int) -> UserRecall | None:
        """The recall data of one user; see `users`."""
        return self.users([userid])[0]

    def recent(self, userids: Sequence[int]) -> list[tuple[Impression, ...]]:
        """The latest impressions of each user, oldest first; none for one that is not known.

        Raises:
            ServiceUnavailable: as for `users`.
        """
        try:
            values: list[bytes | None] = self._client.mget(  # type: ignore[assignment]
                [REDIS_RECENT.format(userid) for userid in userids]
            )
            return [read_impressions(value) if value is not None else () for value in values]
        except FAULTS as error:
            raise ServiceUnavailable("redis", error) from error

    def events(self) -> Mapping[int, tuple[Impression, ...]]:
        """All events accepted since the last load, by user and in order of arrival.

        Raises:
            ServiceUnavailable: as for `users`.
        """
        prefix = REDIS_EVENTS.format("")
        try:
            keys: list[bytes] = sorted(self._client.scan_iter(match=f"{prefix}*", count=10_000))
            return {
                int(key.decode().removeprefix(prefix)): self._events_of(self._client.lrange(key, 0, -1))  # type: ignore[arg-type]
                for key in keys
            }
        except FAULTS as error:
            raise ServiceUnavailable("redis", error) from error

    @staticmethod
    def _events_of(stored: list[bytes]) -> tuple[Impression, ...]:
        return read_impressions(b"[" + b",".join(stored) + b"]")

    def update(self, changes: Mapping[int, Callable[[LiveUser], LiveUser]]) -> dict[int, int]:
        """Changes some users in one transaction: all of them, or none.

        A user who changes is marked in the same transaction, until vector and Feast have followed; see `pushed`.

        Args:
            changes: for each userid, known or not, the function from the present state to the next. Where it returns
                the same object, nothing changes. It is called again when another process was faster.

        Returns:
            How many events each user gained.

        Raises:
            ServiceUnavailable: as for `users`. Then nothing was changed, unless the connection broke while Redis was
                at the transaction's last command: then all was changed or nothing, and nobody can know which.
        """
        if not changes:
            return {}

        def transaction(pipe: redis.client.Pipeline) -> dict[int, int]:
            users = self._live_users(list(changes))  # after `transaction` has begun to watch the keys
            pipe.multi()
            gained = {}
            for userid, before in users.items():
                after = changes[userid](before)
                new = after.events[len(before.events) :]
                gained[userid] = len(new)
                if after is not before:
                    values = (json.dumps(after.terms), json.dumps(after.seen), impressions_json(after.recent))
                    pipe.mset(dict(zip(_live_keys(userid), values, strict=True)))
                    for event in new:
                        pipe.rpush(REDIS_EVENTS.format(userid), json.dumps(astuple(event)))
                    pipe.sadd(REDIS_UNPUSHED, userid)
            return gained

        watched = [key for userid in changes for key in (*_live_keys(userid), REDIS_EVENTS.format(userid))]
        try:
            gained: dict[int, int] = self._client.transaction(  # type: ignore[assignment]
                transaction,  # type: ignore[arg-type]
                *watched,
                value_from_callable=True,
            )
            return gained
        except FAULTS as error:
            raise ServiceUnavailable("redis", error) from error

    def _live_users(self, userids: Sequence[int]) -> dict[int, LiveUser]:
        """What events change of each user, all of it in one round trip."""
        with self._client.pipeline(transaction=False) as pipe:
            for userid in userids:
                pipe.mget(_live_keys(userid))
                pipe.lrange(REDIS_EVENTS.format(userid), 0, -1)
            stored: list[list[bytes | None]] = pipe.execute()
        users = {}
        for userid, (term, seen, recent), events in zip(userids, stored[0::2], stored[1::2], strict=True):
            users[userid] = LiveUser(
                _terms.validate_json(term or b"[]"),
                _items.validate_json(seen or b"[]"),
                read_impressions(recent or b"[]"),
                self._events_of(events),  # type: ignore[arg-type]
            )
        return users

    def set_vector(self, userid: int, recent: Sequence[Impression], vector: FloatArray) -> bool:
        """Replaces a user's vector, unless an event has come in since `recent` was read.

        Args:
            userid: known or not.
            recent: the impressions that the vector was made of, as `recent` returned them.
            vector: [dim + 1].

        Returns:
            Whether it was replaced. If not, whoever recorded the later event replaces it.

        Raises:
            ServiceUnavailable: as for `users`.
        """
        key = REDIS_RECENT.format(userid)

        def transaction(pipe: redis.client.Pipeline) -> bool:
            is_newest = (self._client.get(key) or b"[]") == impressions_json(recent).encode()
            pipe.multi()
            if is_newest:
                pipe.set(REDIS_VECTOR.format(userid), json.dumps(vector.tolist()))
            return is_newest

        try:
            replaced: bool = self._client.transaction(transaction, key, value_from_callable=True)  # type: ignore[assignment, arg-type]
            return replaced
        except FAULTS as error:
            raise ServiceUnavailable("redis", error) from error

    def pushed(self, userid: int) -> None:
        """Notes that Feast and the user's vector follow from the newest impressions."""
        try:
            self._client.srem(REDIS_UNPUSHED, userid)
        except FAULTS as error:
            raise ServiceUnavailable("redis", error) from error

    def unpushed(self) -> list[int]:
        """Users with events that have not reached Feast or their vector yet."""
        try:
            return sorted(int(userid) for userid in self._client.smembers(REDIS_UNPUSHED))  # type: ignore[union-attr]
        except FAULTS as error:
            raise ServiceUnavailable("redis", error) from error
