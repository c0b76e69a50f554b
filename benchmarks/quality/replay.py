"""Requests every user's list from the running server, once it is sure that it serves the data set of the settings."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import urllib3
from tqdm import tqdm

from benchmarks.userids import external_userids
from data_exchange_center import catalogue
from data_exchange_center.external_ids import ExternalId
from data_exchange_center.settings import Settings

CLIENTS = 4
TRIES = 5  # for each user: a degraded response shows how the services were doing, not how good the lists are
TIMEOUT = 10.0  # seconds

Response = dict[str, Any]


class ReplayError(Exception):
    """The server cannot be replayed; the message names the reason and the remedy."""

    is_expected = True


def _connections(settings: Settings) -> urllib3.HTTPConnectionPool:
    return urllib3.HTTPConnectionPool(
        settings.web_host, settings.web_port, maxsize=CLIENTS, timeout=TIMEOUT, retries=False
    )


def check_served(settings: Settings) -> None:
    """Returns when a server responds for the data set of the settings.

    Raises:
        ReplayError: nothing responds, a service is missing, or the server serves another data set.
    """
    address = f"{settings.web_host}:{settings.web_port}"
    with _connections(settings) as connections:
        try:
            ready = json.loads(connections.request("GET", "/ready").data)
            health = json.loads(connections.request("GET", "/health").data)
            missing, dataset = ready["missing"] if not ready["ready"] else [], health["dataset"]
        except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ReplayError(f"nothing responds at {address}: start it with `make run`.") from error
    if missing:
        raise ReplayError(f"the server at {address} cannot use {', '.join(missing)}: `make run`.")
    expected = catalogue.DATASET.load().dataset
    if dataset != expected:
        raise ReplayError(f"the server at {address} serves {dataset}, the settings say {expected}: `make run`.")


def replay(settings: Settings, users: Sequence[int], size: int) -> dict[int, Response]:
    """The explained response for each user, by CLIENTS clients at once.

    Raises:
        ReplayError: a response has another status than 200, or stays degraded.
    """
    external = external_userids()
    with _connections(settings) as connections, ThreadPoolExecutor(CLIENTS) as clients:

        def recommend(user: int) -> Response:
            return _recommend(connections, external.get(user, user), size)

        responses = clients.map(recommend, users)
        bar = tqdm(responses, total=len(users), desc="replay", unit="user", leave=False, disable=None)
        try:
            return dict(zip(users, bar, strict=True))
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise ReplayError(f"the replay broke off: {error}") from error


def _recommend(connections: urllib3.HTTPConnectionPool, user: ExternalId, size: int) -> Response:
    degraded: object = None
    for _ in range(TRIES):
        query = {"userid": str(user), "size": str(size), "explain": "1"}
        response = connections.request("GET", "/recommend", fields=query)
        content: Response = json.loads(response.data)
        if response.status != HTTPStatus.OK:
            raise ReplayError(f"the response for user {user} has the status {response.status}: {content}")
        degraded = content.get("degraded")
        if degraded is None:
            return content
    raise ReplayError(f"the responses for user {user} are degraded by {degraded}: see `make status`.")
