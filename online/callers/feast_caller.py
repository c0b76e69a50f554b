"""Feast's feature server over HTTP."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import requests

from data_exchange_center.columns import EVENT_TIMESTAMP
from data_exchange_center.features import JOIN_KEYS, Entity, entity_columns
from data_exchange_center.serving_names import FEAST_SERVICES, FEAST_USER_PUSH
from data_exchange_center.settings import Settings
from online.callers.types import ServiceUnavailable

PRESENT = "PRESENT"
ENTITIES_AT_A_TIME = 500
FAULTS = (requests.RequestException, KeyError, TypeError, ValueError, AttributeError, OverflowError)
BULK_TIMEOUT = 30.0


class FeastCaller:
    """Reads what offline_to_online/rank/s1_feature_to_feast.py wrote."""

    def __init__(self, settings: Settings, timeout: float, connections: int = 16) -> None:
        """`timeout` is in seconds, for connecting and for each answer; `connections` are kept open."""
        self._url = f"{settings.feast_url}/get-online-features"
        self._push_url = f"{settings.feast_url}/push"
        self._timeout = timeout
        self._session = requests.Session()
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=connections))
        self._session.trust_env = False  # a proxy for the world outside has no business on loopback

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
        request = {"feature_service": FEAST_SERVICES[entity], "entities": {JOIN_KEYS[entity]: list(map(int, ids))}}
        try:
            answer = self._session.post(self._url, json=request, timeout=timeout or self._timeout)
            answer.raise_for_status()
            content = answer.json()
            results = dict(zip(content["metadata"]["feature_names"], content["results"], strict=True))
            known = np.array([[s == PRESENT for s in results[name]["statuses"]] for name in columns], bool).T
            values = np.array([[v or 0 for v in results[name]["values"]] for name in columns], np.int64).T
            if values.shape != (len(ids), len(columns)) or known.shape != values.shape:
                raise ValueError(f"{values.shape} features for {len(ids)} {entity}s")
        except FAULTS as error:
            raise ServiceUnavailable("feast", error) from error
        return values, np.all(known, axis=1)

    def all_features(
        self, entity: Entity, ids: Sequence[int], at_a_time: int = ENTITIES_AT_A_TIME
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """As `features`, for any number of entities, in several requests that may each take BULK_TIMEOUT."""
        parts = [self.features(entity, ids[at : at + at_a_time], BULK_TIMEOUT) for at in range(0, len(ids), at_a_time)]
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
            self._session.post(self._push_url, json=push, timeout=self._timeout).raise_for_status()
        except FAULTS as error:
            raise ServiceUnavailable("feast", error) from error

    def ping(self) -> None:
        """Raises ServiceUnavailable unless Feast knows the feature services."""
        self.features("user", [0])
