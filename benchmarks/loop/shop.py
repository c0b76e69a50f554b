"""The running server as its users see it: lists by HTTP, and events that name the request that they answer."""

import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from benchmarks.loop.people import LIST_LENGTH, People, Rated
from data_exchange_center.serving_load import load_digest
from data_exchange_center.settings import Settings
from online.callers.redis_stores import redis_caller

CLIENTS = 4
TIMEOUT = 30.0  # seconds
READY_SECONDS = 90.0
MOST_EVENTS = 100  # in one request
ATTEMPTS, PAUSE = 20, 1.0  # at a list of the full flow; seconds in between
SECONDS_APART = 30  # two ratings of a user


class Shop:
    """A client of the server; used by some threads."""

    def __init__(self, settings: Settings) -> None:
        """Connects when it is first used."""
        self._url = f"http://{settings.web_host}:{settings.web_port}"
        self._settings = settings

    def wait(self) -> None:
        """Waits until the server shows full lists of the load that the artefacts are of.

        Raises:
            TimeoutError: it does not within READY_SECONDS.
        """
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            loaded = redis_caller(self._settings, TIMEOUT).loaded()
            if loaded == load_digest() and requests.get(f"{self._url}/ready", timeout=TIMEOUT).ok:
                time.sleep(3.0)  # each worker looks for a new load every second
                return
            time.sleep(0.5)
        raise TimeoutError(f"the server does not serve the artefacts within {READY_SECONDS:.0f} s")

    def lists(self, users: Sequence[int], number: int) -> dict[int, list[int]]:
        """Each user's list, asked for under the id of `request_id`.

        Raises:
            RuntimeError: a list is not the full flow's.
        """

        def ask(user: int) -> tuple[int, list[int]]:
            for _ in range(ATTEMPTS):
                found = requests.get(
                    f"{self._url}/recommend",
                    {"userid": user, "size": LIST_LENGTH},
                    headers={"X-Request-ID": request_id(number, user)},
                    timeout=TIMEOUT,
                )
                found.raise_for_status()
                content: dict[str, Any] = found.json()
                if not content.get("degraded"):
                    return user, [item["itemid"] for item in content["items"]]
                time.sleep(PAUSE)  # a busy machine: the user asks again, as a person would
            raise RuntimeError(f"the list of user {user} is without {content['degraded']}, {ATTEMPTS} times over")

        with ThreadPoolExecutor(CLIENTS) as threads:
            return dict(threads.map(ask, users))

    def tell(self, bodies: Sequence[list[dict[str, Any]]]) -> int:
        """Sends events, each body of one user; returns how many were accepted."""

        def post(events: list[dict[str, Any]]) -> int:
            found = requests.post(f"{self._url}/events", json=events, timeout=TIMEOUT)
            found.raise_for_status()
            return int(found.json()["accepted"])

        with ThreadPoolExecutor(CLIENTS) as threads:
            return sum(threads.map(post, bodies))


def request_id(number: int, user: int) -> str:
    """The id under which a user asks in a round."""
    return f"round-{number}-{user}"


def send(shop: Shop, people: People, rated: Sequence[Rated], begins: int, number: int) -> int:
    """Sends what users rated as events, in this order; returns how many were accepted.

    Args:
        shop: where.
        people: who.
        rated: what was rated of the list, and without it.
        begins: of the round, in seconds since 1970.
        number: of the round, which the events of a list name.
    """
    by_user: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for part in rated:
        columns = (part.user.tolist(), part.item.tolist(), part.rating.tolist(), part.position.tolist())
        for user, item, rating, position in zip(*columns, strict=True):
            userid, own = int(people.userids[user]), by_user[user]
            event: dict[str, Any] = {
                "userid": userid,
                "itemid": int(people.truth.itemid[item]),
                "rating": rating,
                "ts": begins + SECONDS_APART * len(own),
            }
            if position:
                event["request_id"] = request_id(number, userid)
            own.append(event)
    bodies = [own[at : at + MOST_EVENTS] for own in by_user.values() for at in range(0, len(own), MOST_EVENTS)]
    return shop.tell(bodies)
