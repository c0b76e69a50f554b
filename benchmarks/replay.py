"""Asks the running server for every user's list, and whether there is a server to ask."""

import http.client
import json
import queue
import threading
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from data_exchange_center import catalogue
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage

CLIENTS = 4
TRIES = 5  # of one user: a degraded answer says how the servers were doing, not how good the lists are
TIMEOUT = 10.0

Answer = dict[str, Any]


class ReplayError(Exception):
    """The server cannot be replayed; the message names the reason and the remedy."""

    is_expected = True


def check_served(settings: Settings) -> None:
    """Returns when the server answers for the data set of the settings.

    Raises:
        ReplayError: nothing answers, or it serves another data set.
    """
    address = f"{settings.web_host}:{settings.web_port}"
    connection = http.client.HTTPConnection(settings.web_host, settings.web_port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/ready")
        ready = json.loads(connection.getresponse().read())
        connection.request("GET", "/health")
        dataset = json.loads(connection.getresponse().read())["dataset"]
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise ReplayError(f"nothing answers at {address}: start it with `make run`.") from error
    finally:
        connection.close()
    if not ready["ready"]:
        raise ReplayError(f"{', '.join(ready['missing'])} cannot be used by the server at {address}: `make run`.")
    expected = catalogue.load_json(catalogue.DATASET)["dataset"]
    if dataset != expected:
        raise ReplayError(f"the server at {address} serves {dataset}, the settings say {expected}: `make run`.")


def replay(settings: Settings, users: Sequence[int], size: int) -> dict[int, Answer]:
    """The explained answer for each user, by CLIENTS clients at once.

    Raises:
        ReplayError: an answer is no 200, or stays degraded.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for user in users:
        waiting.put(user)
    answers: dict[int, Answer] = {}
    faults: list[BaseException] = []
    bar = tqdm(total=len(users), desc="replay", unit="user", leave=False, disable=None)

    def client() -> None:
        connection = http.client.HTTPConnection(settings.web_host, settings.web_port, timeout=TIMEOUT)
        try:
            while not faults:
                user = waiting.get_nowait()
                answers[user] = _ask(connection, user, size)
                bar.update()
        except queue.Empty:
            pass
        except (ReplayError, OSError, http.client.HTTPException, ValueError) as error:
            faults.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bar.close()
    if faults:
        raise ReplayError(f"the replay broke off: {faults[0]}") from faults[0]
    return answers


def _ask(connection: http.client.HTTPConnection, user: int, size: int) -> Answer:
    for _ in range(TRIES):
        connection.request("GET", f"/recommend?userid={user}&size={size}&explain=1")
        response = connection.getresponse()
        content: Answer = json.loads(response.read())
        if response.status != http.HTTPStatus.OK:
            raise ReplayError(f"user {user} was answered {response.status}: {content}")
        if "degraded" not in content:
            return content
    raise ReplayError(f"the answers for user {user} are degraded by {content['degraded']}: see `make status`.")


def main() -> None:
    """Ends with status 1 unless the server can be replayed."""
    check_served(Settings())


if __name__ == "__main__":
    run_stage(main)
