"""Clients that request /recommend over kept connections, as many at once as asked for, and note the responses."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np

from data_exchange_center.external_ids import ExternalId
from data_exchange_center.settings import Settings

TIMEOUT = 10.0  # seconds


@dataclass
class Outcome:
    """What all clients saw.

    Attributes:
        seconds: time of each request that got a response.
        statuses: how many responses had each HTTP status.
        degraded: how many responses were degraded by each service.
        versions: the versions of the ranking model that scored.
        empty: how many responses had no items.
        connection_errors: what was raised in place of a response.
        stages: milliseconds of each stage of each request, by the server's own measurement.
        elapsed: seconds from the first request to the last response.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)
    empty: int = 0
    connection_errors: list[str] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    elapsed: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every request got a response with status 200 and items."""
        return not (self.connection_errors or self.empty) and set(self.statuses) == {200}

    def note(self, status: int, server_timing: str, content: dict[str, Any], seconds: float) -> None:
        """Takes up one response."""
        self.seconds.append(seconds)
        self.statuses[status] += 1
        self.degraded.update(content.get("degraded", ()))
        if version := content.get("model_version"):
            self.versions.add(version)
        self.empty += not content.get("items")
        for stage in filter(None, server_timing.split(", ")):
            name, _, milliseconds = stage.partition(";dur=")
            self.stages.setdefault(name, []).append(float(milliseconds))

    def milliseconds(self, quantile: float) -> float:
        """A quantile of the requests' times."""
        return round(float(np.quantile(self.seconds, quantile)) * 1000, 2)

    def summary(self) -> dict[str, Any]:
        """The outcome as a report holds it."""
        return {
            "requests": len(self.seconds),
            "requests_per_second": round(len(self.seconds) / self.elapsed, 1),
            "p50_ms": self.milliseconds(0.5),
            "p95_ms": self.milliseconds(0.95),
            "p99_ms": self.milliseconds(0.99),
            "slowest_ms": self.milliseconds(1),
            "statuses": dict(self.statuses),
            "responses_without_items": self.empty,
            "connection_errors": len(self.connection_errors),
            "degraded": dict(self.degraded),
            "stage_p50_ms": {name: round(float(np.median(taken)), 2) for name, taken in self.stages.items()},
        }


def ask(
    settings: Settings,
    users: Sequence[ExternalId],
    clients: int,
    going_on: Callable[[], bool],
    look: Callable[[ExternalId, float, dict[str, Any]], None] | None = None,
) -> Outcome:
    """Each client requests one user's list after the other for as long as `going_on` is true.

    Returns when every client has its last response.

    Args:
        settings: where the server is.
        users: by their ids.
        clients: how many, each with a thread.
        going_on: asked before each request.
        look: is shown each response: the user, when the request was sent by `time.perf_counter`, and the content; by
            one client at a time.
    """
    outcome, lock = Outcome(), threading.Lock()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(settings.web_host, settings.web_port, timeout=TIMEOUT)
        place = number * len(users) // clients
        while going_on():
            place += 1
            user, began = users[place % len(users)], time.perf_counter()
            try:
                connection.request("GET", f"/recommend?userid={quote(str(user), safe='')}")
                response = connection.getresponse()
                received = response.read()
                taken = time.perf_counter() - began
                content = json.loads(received)
            except (OSError, http.client.HTTPException, ValueError) as error:
                with lock:
                    outcome.connection_errors.append(repr(error))
                connection.close()
                continue
            with lock:
                outcome.note(response.status, response.headers.get("Server-Timing", ""), content, taken)
                if look is not None:
                    look(user, began, content)
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(client, range(clients)))
    outcome.elapsed = time.perf_counter() - began
    return outcome
