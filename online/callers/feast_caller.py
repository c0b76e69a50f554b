"""Feast's feature server over HTTP."""

import queue
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

import numpy as np
import numpy.typing as npt
import orjson
import urllib3
from urllib3.util import wait_for_read

from data_exchange_center.columns import EVENT_TIMESTAMP
from data_exchange_center.features import JOIN_KEYS, Entity, entity_columns
from data_exchange_center.serving_names import FEAST_USER_PUSH, FEAST_VIEWS
from data_exchange_center.settings import Settings
from online.callers.types import ServiceUnavailable

PRESENT = "PRESENT"
ENTITIES_AT_A_TIME = 500
FAULTS = (
    urllib3.exceptions.HTTPError,
    HTTPException,
    OSError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
)
FEATURES_PATH = "/get-online-features"
JSON_HEADERS = {"Content-Type": "application/json"}
BULK_TIMEOUT = 30.0
# By name and not by the feature service, which holds the same: Feast builds that anew for each request, and takes three
# times as long.
NAMES = {entity: [f"{view}:{column}" for column in entity_columns(entity)] for entity, view in FEAST_VIEWS.items()}
PUSH_TIMEOUT = 2.0  # Feast takes its time over the first one, and nobody waits for a list meanwhile


Features = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]


class FeastCaller:
    """Reads what offline_to_online/rank/s1_feature_to_feast.py wrote."""

    def __init__(self, settings: Settings, timeout: float, connections: int = 16) -> None:
        """`timeout` is in seconds, for connecting and for each answer; `connections` are kept open."""
        self._timeout = timeout
        # urllib3 as it is: requests, which stands on it, takes another half millisecond of each request's own time.
        self._pool = urllib3.HTTPConnectionPool(
            settings.feast_host, settings.feast_port, maxsize=connections, retries=False
        )
        self._address = settings.feast_host, settings.feast_port
        # Of `ask`: http.client's own, whose answers cost half the time of urllib3's to read.
        self._idle = queue.LifoQueue[HTTPConnection](connections)
        weakref.finalize(self, _close_all, self._idle)

    def _post(self, path: str, content: bytes, timeout: float) -> bytes:
        answer = self._pool.request("POST", path, body=content, headers=JSON_HEADERS, timeout=timeout)
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"status {answer.status}: {answer.data[:200]!r}")
        return answer.data

    def ask(self, entity: Entity, ids: Sequence[int]) -> Callable[[], Features]:
        """Sends the question of `features` and returns at once: the answer is had by calling what is returned.

        So the caller has its hands free while Feast works, without a thread for it, which would have to share the
        interpreter with the caller's. What is returned must be called, once, and raises what `features` raises.

        Raises:
            ServiceUnavailable: the question cannot be sent.
        """
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = HTTPConnection(*self._address, timeout=self._timeout)

        def answer() -> Features:
            try:
                response = connection.getresponse()
                content = response.read()
                if response.status != HTTPStatus.OK:
                    raise ValueError(f"status {response.status}: {content[:200]!r}")
                found = _features_of(content, entity, len(ids))
                self._idle.put_nowait(connection)
            except queue.Full:
                connection.close()
            except FAULTS as error:
                connection.close()
                raise ServiceUnavailable("feast", error) from error
            return found

        try:
            if connection.sock and wait_for_read(connection.sock, timeout=0):
                connection.close()  # the server has; `request` connects anew
            connection.request("POST", FEATURES_PATH, _question(entity, ids), JSON_HEADERS)
        except FAULTS as error:
            connection.close()
            raise ServiceUnavailable("feast", error) from error
        return answer

    def features(self, entity: Entity, ids: Sequence[int], timeout: float | None = None) -> Features:
        """The features of some users or items; `timeout` in seconds in place of the caller's.

        Returns:
            [n, columns] in the order of entity_columns(entity), zeros where absent; [n] whether the entity is known.

        Raises:
            ServiceUnavailable: Feast does not answer in time, or with other features than are declared.
        """
        try:
            content = self._post(FEATURES_PATH, _question(entity, ids), timeout or self._timeout)
            return _features_of(content, entity, len(ids))
        except FAULTS as error:
            raise ServiceUnavailable("feast", error) from error

    def all_features(self, entity: Entity, ids: Sequence[int]) -> Features:
        """As `features`, for any number of entities, in several requests that may each take BULK_TIMEOUT."""
        parts = [
            self.features(entity, ids[at : at + ENTITIES_AT_A_TIME], BULK_TIMEOUT)
            for at in range(0, len(ids), ENTITIES_AT_A_TIME)
        ]
        if not parts:
            return np.zeros((0, len(entity_columns(entity))), np.int64), np.zeros(0, bool)
        return np.concatenate([values for values, _ in parts]), np.concatenate([known for _, known in parts])

    def push_user(self, userid: int, values: Mapping[str, int], moment_ns: int) -> None:
        """Replaces a user's features in the online store, unless it holds those of a later moment.

        Args:
            userid: known to Feast or not.
            values: all of entity_columns("user").
            moment_ns: nanoseconds since 1970 at which they held.

        Raises:
            ServiceUnavailable: Feast does not answer in time, or refuses.
        """
        moment = datetime.fromtimestamp(moment_ns // 1000 / 1e6, UTC).isoformat()
        row = {JOIN_KEYS["user"]: userid, **values, EVENT_TIMESTAMP: moment}
        push = {"push_source_name": FEAST_USER_PUSH, "df": {name: [value] for name, value in row.items()}}
        try:
            self._post("/push", orjson.dumps(push), PUSH_TIMEOUT)
        except FAULTS as error:
            raise ServiceUnavailable("feast", error) from error

    def ping(self) -> None:
        """Raises ServiceUnavailable unless Feast knows the feature services."""
        self.features("user", [0])


def _close_all(idle: queue.LifoQueue[HTTPConnection]) -> None:
    while True:
        try:
            idle.get_nowait().close()
        except queue.Empty:
            return


def _question(entity: Entity, ids: Sequence[int]) -> bytes:
    return orjson.dumps({"features": NAMES[entity], "entities": {JOIN_KEYS[entity]: list(map(int, ids))}})


def _features_of(answer: bytes, entity: Entity, count: int) -> Features:
    columns, content = entity_columns(entity), orjson.loads(answer)
    results = dict(zip(content["metadata"]["feature_names"], content["results"], strict=True))
    known = np.array([[s == PRESENT for s in results[name]["statuses"]] for name in columns], bool).T
    values = np.array([[v or 0 for v in results[name]["values"]] for name in columns], np.int64).T
    if values.shape != (count, len(columns)) or known.shape != values.shape:
        raise ValueError(f"{values.shape} features for {count} {entity}s")
    return values, np.all(known, axis=1)
