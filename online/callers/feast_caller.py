"""Feast's feature server over HTTP."""

import queue
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple

import numpy as np
import orjson
import urllib3
from urllib3.util import wait_for_read

from data_exchange_center.arrays import BoolArray, Int64Array
from data_exchange_center.columns import Column
from data_exchange_center.features import JOIN_KEYS, Entity, FeatureSet
from data_exchange_center.serving_names import FEAST_HISTORY_PUSH, FEAST_VIEWS
from data_exchange_center.settings import Settings
from online.callers.types import Expected, ServiceUnavailable, lost_user
from online.tracing import Headers

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
PUSH_TIMEOUT = 2.0  # Feast takes its time over the first push, and no list waits for it


@cache
def requested_names(declared: FeatureSet, entity: Entity) -> list[str]:
    """The features of an entity in Feast's words.

    Features are requested by name and not by the feature service, which holds the same ones: Feast resolves a service
    again for each request, which takes three times as long.
    """
    views = [view for view in FEAST_VIEWS if view.entity == entity]
    return [f"{view.name}:{column}" for view in views for column in view.columns(declared)]


@cache
def view_places(declared: FeatureSet, entity: Entity) -> list[list[int]]:
    """Where the columns of each view stand among the entity's."""
    own = declared.entity_columns(entity)
    views = [view for view in FEAST_VIEWS if view.entity == entity]
    return [[own.index(column) for column in view.columns(declared)] for view in views]


class Features(NamedTuple):
    """The features of n entities.

    Attributes:
        values: [n, columns] in the order of `FeatureSet.entity_columns`; zeros for a view that does not know the
            entity.
        known: [n] whether any view knows the entity. A user who came with the events of this load has a history and
            no profile, and is known.
    """

    values: Int64Array
    known: BoolArray


class FeastCaller:
    """Reads what offline_to_online/rank/s1_feature_to_feast.py wrote, and pushes the history that events change."""

    def __init__(self, settings: Settings, timeout: float, connections: int = 16, headers: Headers = dict) -> None:
        """Connects when it is first used.

        Args:
            settings: where Feast is.
            timeout: in seconds, for connecting and for each response.
            connections: so many are kept open.
            headers: what each request carries beside its own.
        """
        self._timeout, self._headers = timeout, headers
        # urllib3 alone: requests, which is built on it, adds half a millisecond of work to each request.
        self._pool = urllib3.HTTPConnectionPool(
            settings.feast_host, settings.feast_port, maxsize=connections, retries=False
        )
        self._address = settings.feast_host, settings.feast_port
        # For `request_features`: http.client's own connections, whose responses take half of urllib3's time to read.
        self._idle = queue.LifoQueue[HTTPConnection](connections)
        weakref.finalize(self, _close_all, self._idle)

    def _post(self, path: str, content: bytes, timeout: float) -> bytes:
        headers = JSON_HEADERS | self._headers()
        response = self._pool.request("POST", path, body=content, headers=headers, timeout=timeout)
        _check_status(response.status, response.data)
        return response.data

    def request_features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> Callable[[], Features]:
        """Sends the request of `features` and returns at once; calling the result waits for the response.

        So the caller can work while Feast does, without a thread for it, which would compete with the caller's for the
        interpreter. The result must be called, once, and raises what `features` raises.

        Raises:
            ServiceUnavailable: the request cannot be sent.
        """
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = HTTPConnection(*self._address, timeout=self._timeout)

        def receive() -> Features:
            try:
                response = connection.getresponse()
                content = response.read()
                _check_status(response.status, content)
                features = _read_features(content, declared, entity, len(ids))
                self._idle.put_nowait(connection)
            except queue.Full:
                connection.close()
            except FAULTS as error:
                connection.close()
                raise ServiceUnavailable("feast", error) from error
            return features

        try:
            if connection.sock and wait_for_read(connection.sock, timeout=0):
                connection.close()  # the server has closed it; `request` connects again
            content = _features_request(declared, entity, ids)
            connection.request("POST", FEATURES_PATH, content, JSON_HEADERS | self._headers())
        except FAULTS as error:
            connection.close()
            raise ServiceUnavailable("feast", error) from error
        return receive

    def features(
        self, declared: FeatureSet, entity: Entity, ids: Sequence[int], timeout: float | None = None
    ) -> Features:
        """The features of some users or items; `timeout` in seconds replaces the caller's.

        Raises:
            ServiceUnavailable: Feast does not respond in time, or responds with other features than are declared.
        """
        try:
            content = self._post(FEATURES_PATH, _features_request(declared, entity, ids), timeout or self._timeout)
            return _read_features(content, declared, entity, len(ids))
        except FAULTS as error:
            raise ServiceUnavailable("feast", error) from error

    def all_features(self, declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> Features:
        """As `features`, for any number of entities, in several requests that may each take BULK_TIMEOUT."""
        parts = [
            self.features(declared, entity, ids[start : start + ENTITIES_AT_A_TIME], BULK_TIMEOUT)
            for start in range(0, len(ids), ENTITIES_AT_A_TIME)
        ]
        if not parts:
            return Features(np.zeros((0, len(declared.entity_columns(entity))), np.int64), np.zeros(0, np.bool_))
        return Features(np.concatenate([part.values for part in parts]), np.concatenate([part.known for part in parts]))

    def push_history(self, declared: FeatureSet, userid: int, counts: Mapping[str, int], moment_ns: int) -> None:
        """Replaces a user's history in the online store, unless it holds that of the same or a later moment.

        The push is one way: the rest of the user's features is another view, and is neither read nor written.

        Args:
            declared: the features.
            userid: known to Feast or not.
            counts: all of `FeatureSet.history_counts`.
            moment_ns: nanoseconds since 1970 at which they were read; Feast keeps microseconds.

        Raises:
            ServiceUnavailable: Feast does not respond in time, or refuses.
        """
        moment = datetime.fromtimestamp(moment_ns // 1000 / 1e6, UTC).isoformat()
        row = {JOIN_KEYS["user"]: userid, **{name: counts[name] for name in declared.history_counts}}
        frame = {name: [value] for name, value in (*row.items(), (Column.EVENT_TIMESTAMP, moment))}
        push = {"push_source_name": FEAST_HISTORY_PUSH, "df": frame}
        try:
            self._post("/push", orjson.dumps(push), PUSH_TIMEOUT)
        except FAULTS as error:
            raise ServiceUnavailable("feast", error) from error

    def ping(self, expected: Expected) -> None:
        """Raises ServiceUnavailable unless Feast knows the views of users, and the user who is expected."""
        (is_known,) = self.features(expected.features, "user", [expected.userid or 0]).known
        if not is_known and expected.userid is not None:
            raise lost_user("feast", expected.userid)


def _close_all(idle: queue.LifoQueue[HTTPConnection]) -> None:
    while True:
        try:
            idle.get_nowait().close()
        except queue.Empty:
            return


def _check_status(status: int, content: bytes) -> None:
    if status != HTTPStatus.OK:
        raise ValueError(f"status {status}: {content[:200]!r}")


def _features_request(declared: FeatureSet, entity: Entity, ids: Sequence[int]) -> bytes:
    names = requested_names(declared, entity)
    return orjson.dumps({"features": names, "entities": {JOIN_KEYS[entity]: list(map(int, ids))}})


def _read_features(response: bytes, declared: FeatureSet, entity: Entity, count: int) -> Features:
    """The response's columns as a matrix in the declared order, whatever order Feast chose.

    A row that Feast's Redis store lacks comes with the status PRESENT and null as its value, so the value decides.
    """
    columns, content = declared.entity_columns(entity), orjson.loads(response)
    results = dict(zip(content["metadata"]["feature_names"], content["results"], strict=True))
    found = [(results[name]["values"], results[name]["statuses"]) for name in columns]
    present = np.array(
        [[value is not None and status == PRESENT for value, status in zip(*pair, strict=True)] for pair in found],
        np.bool_,
    ).T
    values = np.array([[value or 0 for value in column] for column, _ in found], np.int64).T
    if values.shape != (count, len(columns)) or present.shape != values.shape:
        raise ValueError(f"{values.shape} features for {count} {entity}s")
    if present.all():
        return Features(values, np.ones(count, np.bool_))
    known = np.zeros(count, np.bool_)
    for places in view_places(declared, entity):
        in_view: BoolArray = np.all(present[:, places], axis=1)
        values[:, places] *= in_view[:, None]
        known |= in_view
    return Features(values, known)
