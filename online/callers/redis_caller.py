"""Redis: a user's terms, vector, filter and latest impressions in one round trip; and what events change."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from data_exchange_center.arrays import FloatArray
from data_exchange_center.serving_names import (
    REDIS_DATABASE,
    REDIS_EVENTS,
    REDIS_FEAST,
    REDIS_LOAD,
    REDIS_RECENT,
    REDIS_UNPUSHED,
    REDIS_VECTOR,
    redis_prefix,
    redis_userid,
)
from data_exchange_center.settings import Settings
from online.callers.redis_streams import log_events
from online.callers.redis_values import (
    FAULTS,
    KEYS,
    check_complete,
    check_load,
    fault_of,
    impressions_json,
    item_values,
    live_keys,
    read_impressions,
    term_values,
    user_recall,
)
from online.callers.types import Expected, Impression, LiveUser, UserRecall, lost_user

Value = TypeVar("Value")


def redis_client(settings: Settings, timeout: float) -> redis.Redis:
    """A client of the project's database, which connects when it is first used.

    Args:
        settings: where Redis is, and its password.
        timeout: in seconds, for connecting and for each response.
    """
    return redis.Redis(
        host=settings.redis_host,
        port=settings.redis_port,
        password=settings.redis_password.get_secret_value() or None,
        db=REDIS_DATABASE,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),  # the default retries for seconds, and a late response is of no use
    )


def changed_keys(userid: int) -> list[str]:
    """The keys that an event changes of a user."""
    return [*live_keys(userid), REDIS_EVENTS.format(userid)]


def write_change(pipe: redis.client.Pipeline, userid: int, before: LiveUser, after: LiveUser) -> tuple[Impression, ...]:
    """Puts into a transaction what makes one state of a user of the other; returns the new events."""
    new = after.events[len(before.events) :]
    if after is not before:
        values = (json.dumps(after.terms), json.dumps(after.seen), impressions_json(after.recent))
        pipe.mset(dict(zip(live_keys(userid), values, strict=True)))
        for event in new:
            pipe.rpush(REDIS_EVENTS.format(userid), json.dumps(event.stored))
    return new


class RedisCaller:
    """Reads what offline_to_online/recall/s1_user_to_redis.py wrote, and keeps it up to date with events."""

    def __init__(self, settings: Settings, timeout: float) -> None:
        """Opens no connection yet; `timeout` is in seconds, for connecting and for each response."""
        self._client = redis_client(settings, timeout)
        self._log_length = settings.event_log_length

    def _at(self, key: str, operation: Callable[[redis.Redis], Value]) -> Value:
        """The operation's result on the Redis that has the key: there is one Redis.

        Raises:
            ServiceUnavailable: Redis does not respond in time.
            StoreFault: it holds something else under the key.
        """
        try:
            return operation(self._client)
        except FAULTS as error:
            raise fault_of(error) from error

    def ping(self, expected: Expected) -> None:
        """Raises ServiceUnavailable unless Redis holds the users of the load that is expected."""
        user = self.user(expected.userid or 0, expected.load_digest)
        if user is None and expected.userid is not None:
            raise lost_user("redis", expected.userid)

    def loaded(self) -> str | None:
        """The digest of the load that the users are of; None where there is none, or where one is under way."""
        held: bytes | None = self._at(REDIS_LOAD, lambda client: client.get(REDIS_LOAD))  # type: ignore[assignment]
        return held.decode() if held else None

    def users(self, userids: Sequence[int]) -> list[UserRecall | None]:
        """The recall data of each user, of whatever load, None for one that is not known.

        Raises:
            ServiceUnavailable: Redis does not respond in time.
            StoreFault: it holds something else under these keys, or some of a user's keys only.
        """
        try:
            return self._users(userids)[0]
        except FAULTS as error:
            raise fault_of(error) from error

    def user(self, userid: int, load: str | None = None) -> UserRecall | None:
        """The recall data of one user; see `users`.

        Args:
            userid: known or not.
            load: the digest of the load that it must be of; without one, of any.

        Raises:
            StoreFault: as for `users`, and where it is of another load.
        """
        try:
            (user,), held = self._users([userid])
        except FAULTS as error:
            raise fault_of(error) from error
        if load is not None:
            check_load(held, load)
        return user

    def _users(self, userids: Sequence[int]) -> tuple[list[UserRecall | None], bytes | None]:
        """The users, and the load that they are of, in one round trip."""
        *values, held = self._client.mget(  # type: ignore[misc]
            [*(key.format(userid) for userid in userids for key in KEYS), REDIS_LOAD]
        )
        columns = [values[place :: len(KEYS)] for place in range(len(KEYS))]
        return [user_recall(*parts) for parts in zip(userids, *columns, strict=True)], held

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
            raise fault_of(error) from error

    def events(self) -> Mapping[int, tuple[Impression, ...]]:
        """All events accepted since the last load, by user and in order of arrival.

        Raises:
            ServiceUnavailable: as for `users`.
        """
        try:
            keys: list[bytes] = sorted(self._client.scan_iter(match=f"{redis_prefix(REDIS_EVENTS)}*", count=10_000))
            return {
                int(redis_userid(REDIS_EVENTS, key)): self._events_of(self._client.lrange(key, 0, -1))  # type: ignore[arg-type]
                for key in keys
            }
        except FAULTS as error:
            raise fault_of(error) from error

    @staticmethod
    def _events_of(stored: list[bytes]) -> tuple[Impression, ...]:
        return read_impressions(b"[" + b",".join(stored) + b"]")

    def update(self, changes: Mapping[int, Callable[[LiveUser], LiveUser]], load: str | None = None) -> dict[int, int]:
        """Changes some users in one transaction: all of them, or none.

        A user who changes is marked in the same transaction, until vector and Feast have followed; see `pushed`.

        Args:
            changes: for each userid, known or not, the function from the present state to the next. Where it returns
                the same object, nothing changes. It is called again when another process was faster.
            load: the digest of the load that the users must be of; without one, of any.

        Returns:
            How many events each user gained.

        Raises:
            ServiceUnavailable: as for `users`. Then nothing was changed, unless the connection broke while Redis was
                at the transaction's last command: then all was changed or nothing, and nobody can know which.
            StoreFault: as for `user`; nothing was changed.
        """
        if not changes:
            return {}

        def transaction(pipe: redis.client.Pipeline) -> dict[int, int]:
            if load is not None:
                check_load(self._client.get(REDIS_LOAD), load)  # type: ignore[arg-type]
            users = self._live_users(self._client, list(changes))  # after `transaction` has begun to watch the keys
            pipe.multi()
            gained = {}
            for userid, before in users.items():
                after = changes[userid](before)
                new = write_change(pipe, userid, before, after)
                log_events(pipe, new, self._log_length)
                gained[userid] = len(new)
                if after is not before:
                    pipe.sadd(REDIS_UNPUSHED, userid)
            return gained

        watched = [REDIS_LOAD, *(key for userid in changes for key in changed_keys(userid))]
        try:
            gained: dict[int, int] = self._client.transaction(  # type: ignore[assignment]
                transaction,  # type: ignore[arg-type]
                *watched,
                value_from_callable=True,
            )
            return gained
        except FAULTS as error:
            raise fault_of(error) from error

    def _live_users(self, client: redis.Redis, userids: Sequence[int]) -> dict[int, LiveUser]:
        """What events change of each user, all of it in one round trip."""
        with client.pipeline(transaction=False) as pipe:
            for userid in userids:
                pipe.mget(live_keys(userid))
                pipe.lrange(REDIS_EVENTS.format(userid), 0, -1)
            stored: list[list[bytes | None]] = pipe.execute()
        users = {}
        for userid, live, events in zip(userids, stored[0::2], stored[1::2], strict=True):
            check_complete(userid, live)
            term, seen, recent = live
            users[userid] = LiveUser(
                term_values.validate_json(term or b"[]"),
                item_values.validate_json(seen or b"[]"),
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

        def change(client: redis.Redis) -> bool:
            def transaction(pipe: redis.client.Pipeline) -> bool:
                is_newest = (client.get(key) or b"[]") == impressions_json(recent).encode()
                pipe.multi()
                if is_newest:
                    pipe.set(REDIS_VECTOR.format(userid), json.dumps(vector.tolist()))
                return is_newest

            replaced: bool = client.transaction(transaction, key, value_from_callable=True)  # type: ignore[assignment, arg-type]
            return replaced

        return self._at(key, change)

    def feast_features(self) -> str:
        """The hash of the features that Feast's rows are of; empty where that is not known.

        Raises:
            ServiceUnavailable: as for `users`.
        """
        held: bytes | None = self._at(REDIS_FEAST, lambda client: client.get(REDIS_FEAST))  # type: ignore[assignment]
        return (held or b"").decode()

    def set_feast_features(self, feature_hash: str) -> None:
        """Notes the hash of the features that Feast's rows are of from now on.

        Raises:
            ServiceUnavailable: as for `users`.
        """
        self._at(REDIS_FEAST, lambda client: client.set(REDIS_FEAST, feature_hash))

    def pushed(self, userid: int) -> None:
        """Notes that Feast and the user's vector follow from the newest impressions."""
        self._at(REDIS_UNPUSHED, lambda client: client.srem(REDIS_UNPUSHED, userid))

    def unpushed(self) -> list[int]:
        """Users with events that have not reached Feast or their vector yet."""
        members: set[bytes] = self._at(REDIS_UNPUSHED, lambda client: client.smembers(REDIS_UNPUSHED))  # type: ignore[arg-type, return-value]
        return sorted(map(int, members))
