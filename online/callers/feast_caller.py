"""Feast's feature server over HTTP."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import numpy as np
import numpy.typing as npt
import urllib3

from data_exchange_center.columns import EVENT_TIMESTAMP
from data_exchange_center.features import JOIN_KEYS, Entity, entity_columns
from data_exchange_center.serving_names import FEAST_USER_PUSH, FEAST_VIEWS
from data_exchange_center.settings import Settings
from online.callers.types import ServiceUnavailable

PRESENT = "PRESENT"
ENTITIES_AT_A_TIME = 500
FAULTS = (urllib3.exceptions.HTTPError, KeyError, TypeError, ValueError, AttributeError, OverflowError)
BULK_TIMEOUT = 30.0
PUSH_TIMEOUT = 2.0  # Feast takes its time over the first one, and nobody waits for a list meanwhile


class FeastCaller:
    """Reads what offline_to_online/rank/s1_feature_to_feast.py wrote."""

    def __init__(self, settings: Settings, timeout: float, connections: int = 16) -> None:
        """`timeout` is in seconds, for connecting and for each answer; `connections` are kept open."""
        self._timeout = timeout
        # urllib3 as it is: requests, which stands on it, takes another half millisecond of each request's own time.
        self._pool = urllib3.HTTPConnectionPool(
            settings.feast_host, settings.feast_port, maxsize=connections, retries=False
        )

    def _post(self, path: str, content: dict[str, Any], timeout: float) -> bytes:
        answer = self._pool.request("POST", path, json=content, timeout=timeout)
        if answer.status != HTTPStatus.OK:
            raise ValueError(f"status {answer.status}: {answer.data[:200]!r}")
        return answer.data

    def features(
        self, entity: Entity, ids: Sequence[int], timeout: float | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The features of some users or items; `timeout` in seconds in place of the caller's.

        Returns:
            [n, columns] in the order of entity_columns(entity), zeros where absent; [n] whether the entity is known.

        Raises:
            ServiceUnavailable: Feast does not answer in time, or with other features than are declared.
        """
        columns = entity_columns(entity)
        # By name and not by the feature service, which holds the same: Feast builds that anew for each request, and
        # takes three times as long.
        names = [f"{FEAST_VIEWS[entity]}:{column}" for column in columns]
        request = {"features": names, "entities": {JOIN_KEYS[entity]: list(map(int, ids))}}
        try:
            content = json.loads(self._post("/get-online-features", request, timeout or self._timeout))
            results = dict(zip(content["metadata"]["feature_names"], content["results"], strict=True))
            known = np.array([[s == PRESENT for s in results[name]["statuses"]] for name in columns], bool).T
            values = np.array([[v or 0 for v in results[name]["values"]] for name in columns], np.int64).T
            if values.shape != (len(ids), len(columns)) or known.shape != values.shape:
                raise ValueError(f"{values.shape} features for {len(ids)} {entity}s")
        except FAULTS as error:
            raise ServiceUnavailable("feast", error) from error
        return values, np.all(known, axis=1)

    def all_features(self, entity: Entity, ids: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
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
            self._post("/push", push, PUSH_TIMEOUT)
        except FAULTS as error:
            raise ServiceUnavailable("feast", error) from error

    def ping(self) -> None:
        """Raises ServiceUnavailable unless Feast knows the feature services."""
        self.features("user", [0])
