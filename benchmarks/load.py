"""Clients that ask /recommend over kept connections, as many at once as wanted, and note what came back."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

from data_exchange_center.settings import Settings

TIMEOUT = 10.0


@dataclass
class Outcome:
    """What the clients saw; `seconds` of the answered requests."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)
    empty: int = 0
    connection_errors: list[str] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)  # milliseconds, as the server says
    elapsed: float = 0.0

    def note_stages(self, server_timing: str) -> None:
        """Takes up the header of one answer."""
        for stage in filter(None, server_timing.split(", ")):
            name, _, milliseconds = stage.partition(";dur=")
            self.stages.setdefault(name, []).append(float(milliseconds))

    def milliseconds(self, quantile: float) -> float:
        """A quantile of the requests' times."""
        return round(float(np.quantile(self.seconds, quantile)) * 1000, 2)

    def summary(self) -> dict[str, Any]:
        """For a report."""
        return {
            "requests": len(self.seconds),
            "requests_per_second": round(len(self.seconds) / self.elapsed, 1),
            "p50_ms": self.milliseconds(0.5),
            "p95_ms": self.milliseconds(0.95),
            "p99_ms": self.milliseconds(0.99),
            "slowest_ms": self.milliseconds(1),
            "statuses": dict(self.statuses),
            "answers_without_items": self.empty,
            "connection_errors": len(self.connection_errors),
            "degraded": dict(self.degraded),
            "stage_p50_ms": {name: round(float(np.median(taken)), 2) for name, taken in self.stages.items()},
        }


def ask(settings: Settings, users: Sequence[int], clients: int, going_on: Callable[[], bool]) -> Outcome:
    """Asks for one user after the other until `going_on` says no; returns when every client has its last answer."""
    outcome, lock = Outcome(), threading.Lock()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(settings.web_host, settings.web_port, timeout=TIMEOUT)
        place = number * len(users) // clients
        while going_on():
            place += 1
            began = time.perf_counter()
            try:
                connection.request("GET", f"/recommend?userid={users[place % len(users)]}")
                answer = connection.getresponse()
                received = answer.read()
                taken = time.perf_counter() - began
                content = json.loads(received)
            except (OSError, http.client.HTTPException, ValueError) as error:
                with lock:
                    outcome.connection_errors.append(repr(error))
                connection.close()
                continue
            with lock:
                outcome.seconds.append(taken)
                outcome.note_stages(answer.headers.get("Server-Timing", ""))
                outcome.statuses[answer.status] += 1
                outcome.degraded.update(content.get("degraded", ()))
                outcome.versions.add(content.get("model_version"))
                outcome.empty += not content.get("items")
        connection.close()

    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.elapsed = time.perf_counter() - began
    return outcome


def machine() -> dict[str, Any]:
    """Cores and load, to be written beside every figure."""
    return {"cores": psutil.cpu_count(), "load_average": [round(load, 2) for load in psutil.getloadavg()]}
