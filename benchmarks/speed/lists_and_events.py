"""Clients of the small cluster that ask for lists and send events side by side, and note what they see."""

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np

from data_exchange_center.external_ids import ExternalId, internal_id
from data_exchange_center.settings import Settings

LIST_CLIENTS, EVENT_CLIENTS = 12, 4
PAUSE_SECONDS = 0.2  # between two requests of a client: the same two cores also start what was killed
TIMEOUT = 20.0

Event = tuple[int, int, int]  # userid and itemid as they are inside, and the time


@dataclass
class Seen:
    """What the clients saw while one node was killed and came back."""

    milliseconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    degraded: Counter[str] = field(default_factory=Counter)
    degraded_lists: int = 0
    lists: int = 0
    accepted: int = 0
    longest_event_ms: float = 0.0

    def summary(self) -> dict[str, Any]:
        """As the report holds it."""
        times = self.milliseconds or [0.0]
        return {
            "requests": len(self.milliseconds),
            "errors": len(self.errors),
            "first_errors": self.errors[:3],
            "statuses": dict(self.statuses),
            "lists": self.lists,
            "degraded_lists": self.degraded_lists,
            "degraded": dict(self.degraded),
            "p50_ms": round(float(np.quantile(times, 0.5)), 1),
            "p99_ms": round(float(np.quantile(times, 0.99)), 1),
            "slowest_ms": round(max(times), 1),
            "events_accepted": self.accepted,
            "slowest_event_ms": round(self.longest_event_ms, 1),
        }


class ListsAndEvents:
    """The clients; `seen` is replaced when the next node is killed."""

    def __init__(self, settings: Settings, users: Sequence[ExternalId], items: Sequence[ExternalId]) -> None:
        """Begins to send.

        Args:
            settings: where nginx listens.
            users: whose lists are asked for, and whose events are sent.
            items: which the events rate.
        """
        self.seen, self.accepted = Seen(), list[Event]()
        self._settings, self._users, self._items = settings, users, items
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._moments = itertools.count(int(time.time()) - 10_000_000)  # each event has a time of its own
        self._threads = ThreadPoolExecutor(LIST_CLIENTS + EVENT_CLIENTS)
        clients: Sequence[Callable[[int], None]] = [*[self._ask] * LIST_CLIENTS, *[self._tell] * EVENT_CLIENTS]
        self._running = [self._threads.submit(client, number) for number, client in enumerate(clients)]

    def next_seen(self) -> Seen:
        """What was seen up to now; from now on it is counted again."""
        with self._lock:
            before, self.seen = self.seen, Seen()
        return before

    def end(self) -> None:
        """Waits for the last responses."""
        self._ended.set()
        self._threads.shutdown()
        for running in self._running:
            running.result()

    def _ask(self, number: int) -> None:
        place = number * len(self._users) // LIST_CLIENTS

        def request(connection: http.client.HTTPConnection) -> None:
            nonlocal place
            place += 1
            user = quote(str(self._users[place % len(self._users)]), safe="")
            connection.request("GET", f"/recommend?userid={user}")

        def note(content: dict[str, Any], taken: float) -> str | None:
            self.seen.lists += 1
            self.seen.degraded.update(content.get("degraded", ()))
            self.seen.degraded_lists += bool(content.get("degraded"))
            return None if content.get("items") else "no items"

        self._send(request, note)

    def _tell(self, number: int) -> None:
        chance, sent = random.Random(number), (0, 0, 0)

        def request(connection: http.client.HTTPConnection) -> None:
            nonlocal sent
            user, item = chance.choice(self._users), chance.choice(self._items)
            sent = internal_id(user), internal_id(item), next(self._moments)
            event = {"userid": user, "itemid": item, "rating": 4, "ts": sent[2]}
            connection.request("POST", "/events", json.dumps(event), {"Content-Type": "application/json"})

        def note(content: dict[str, Any], taken: float) -> str | None:
            self.seen.longest_event_ms = max(self.seen.longest_event_ms, taken)
            if content["accepted"] + content["duplicates"] != 1:
                return f"not accepted: {content}"
            self.seen.accepted += 1
            self.accepted.append(sent)
            return None

        self._send(request, note)

    def _send(
        self,
        request: Callable[[http.client.HTTPConnection], None],
        note: Callable[[dict[str, Any], float], str | None],
    ) -> None:
        connection = http.client.HTTPConnection(self._settings.web_host, self._settings.web_port, timeout=TIMEOUT)
        while not self._ended.is_set():
            began, status, content, error = time.perf_counter(), 0, {}, None
            try:
                request(connection)
                response = connection.getresponse()
                status, received = response.status, response.read()
                content = json.loads(received)
            except (OSError, http.client.HTTPException, ValueError) as fault:
                error = repr(fault)
                connection.close()
            taken = (time.perf_counter() - began) * 1000
            with self._lock:
                if status == 200 and not error:
                    error = note(content, taken)
                elif not error:
                    error = f"status {status}: {content}"
                self.seen.milliseconds.append(taken)
                self.seen.statuses[status] += 1
                if error:
                    self.seen.errors.append(error)
            time.sleep(PAUSE_SECONDS)
        connection.close()
