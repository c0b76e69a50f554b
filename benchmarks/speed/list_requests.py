"""10,000 requests for lists made by schemathesis: no filter is breached, no page repeats another, nothing is a 5xx.

    python -m benchmarks.speed.list_requests          (while `make run` is up)

The requests come from /openapi.json, with filters, sessions and all else that it allows; users and items of the data
set stand in for the made-up ones, so that most lists are full. Each list is read page by page, now and then with an
event in between. What an item's genres and year are is taken from the artefacts, not from the response. Ends with
status 1 at the first fault.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.report import machine, write_report
from benchmarks.speed.odd_requests import GROWTH, memory
from data_exchange_center.external_ids import ExternalId
from data_exchange_center.settings import Settings
from data_exchange_center.stage import run_stage
from online.main.list_contract import DEFAULT_ITEMS
from online.serving_data import ItemMetadata, ServingData

REQUESTS = 10_000
EXAMPLES = 500  # of a run of hypothesis, whose cost grows with them
PAGES = 3  # of a list that are read at most
EVENTS_AT = 5  # one list in so many gets an event between two pages

Post = Callable[[str, Any], Any]  # sends JSON to a path and returns the response


@dataclass
class ListReader:
    """Sends requests for lists, reads their pages and compares them with the catalogue.

    Attributes:
        items: the catalogue's, by the id as it came.
        users: some that are known.
        post: sends an event.
        made: requests so far.
        full: lists that had items.
        narrowed: lists that a filter narrowed.
        paged: lists of which a second page was read.
    """

    items: Mapping[ExternalId, ItemMetadata]
    users: Sequence[ExternalId]
    post: Post
    made: int = 0
    full: int = 0
    narrowed: int = 0
    paged: int = 0
    _ids: list[ExternalId] = field(init=False)

    def __post_init__(self) -> None:
        """Orders the ids, so that the same numbers draw the same ones."""
        self._ids = list(self.items)

    def read(self, case: "schemathesis.Case[Any]", drawn: int) -> None:
        """Sends a request that the contract allows, and reads the pages that follow.

        Args:
            case: the request.
            drawn: a number that decides which users and items it is about.

        Raises:
            AssertionError: a fault of the server.
        """
        asked = case.query if case.method.upper() == "GET" else case.body
        assert isinstance(asked, dict), asked
        self._make_real(asked, drawn)
        shown: list[ExternalId] = []
        for page in range(PAGES):
            content = case.call_and_validate().json()
            self.made += 1
            if "items" not in content:
                return  # a body over 16 KiB, or another refusal that the contract has
            page_ids = [item["itemid"] for item in content["items"]]
            faults = [*self.breaches(asked, page_ids), *(f"{item} again" for item in page_ids if item in shown)]
            assert not faults, (asked, faults)
            shown += page_ids
            if not page:
                self.full += bool(page_ids)
                self.narrowed += bool({"genres", "genres_out", "year_from", "year_to", "exclude"} & asked.keys())
            else:
                self.paged += 1
            if "cursor" not in content:
                assert not page_ids or len(shown) > 1000, "a page with items, and no cursor"
                return
            if drawn % EVENTS_AT == 0 and "userid" in asked:
                event = {
                    "userid": asked["userid"],
                    "itemid": self._ids[drawn % len(self._ids)],
                    "rating": 5,
                    "ts": drawn,
                }
                assert self.post("/events", event).status_code in (200, 401)
                self.made += 1
            # A fresh dictionary, by which schemathesis notices the change.
            asked = {**asked, "cursor": content["cursor"]}
            if case.method.upper() == "GET":
                case.query = asked
            else:
                case.body = asked

    def _make_real(self, asked: dict[str, Any], drawn: int) -> None:
        """Puts users and items of the data set in the place of those that the contract allows and nobody has."""
        asked.pop("cursor", None)
        if "userid" in asked and drawn % 4:
            asked["userid"] = self.users[drawn % len(self.users)]
        for place, item in enumerate(asked.get("session", ())):
            item["itemid"] = self._ids[(drawn + 7 * place) % len(self._ids)]
        if asked.get("exclude"):
            asked["exclude"] = [self._ids[(drawn + place) % len(self._ids)] for place in range(len(asked["exclude"]))]

    def breaches(self, asked: Mapping[str, Any], page: Sequence[ExternalId]) -> list[str]:
        """What is wrong with the items of a page."""
        kept_out = {*asked.get("exclude", ()), *(item["itemid"] for item in asked.get("session", ()))}
        faults = ["an item stands twice"] * (len(set(page)) < len(page))
        faults += ["more items than asked for"] * (len(page) > asked.get("size", DEFAULT_ITEMS))
        for itemid in page:
            item = self.items[itemid]
            holds = (
                itemid not in kept_out,
                not asked.get("genres") or not set(item.genres).isdisjoint(asked["genres"]),
                set(item.genres).isdisjoint(asked.get("genres_out", ())),
                "year_from" not in asked or (item.year is not None and item.year >= asked["year_from"]),
                "year_to" not in asked or (item.year is not None and item.year <= asked["year_to"]),
            )
            faults += [f"{itemid} {item} breaches a filter"] * (not all(holds))
        return faults


def read_lists(schema: Any, reader: ListReader, count: int, first_seed: int = 0) -> None:
    """Reads lists, asked for with GET and with POST, until `count` requests were made.

    Args:
        schema: schemathesis's, of the server.
        reader: compares them.
        count: how many.
        first_seed: of the runs of hypothesis.

    Raises:
        AssertionError: a fault of the server.
    """
    either = st.one_of(*(schema["/recommend"][method].as_strategy() for method in ("GET", "POST")))
    run = first_seed
    while reader.made < count:
        run += 1
        examples = min(EXAMPLES, count)

        @seed(run)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=either, drawn=st.integers(0, 10**6))
        def read(case: "schemathesis.Case[Any]", drawn: int) -> None:
            if reader.made < count:
                reader.read(case, drawn)

        read()


def readable_items(data: ServingData) -> dict[ExternalId, ItemMetadata]:
    """The catalogue by the ids that responses have."""
    return {itemid if item.external_id is None else item.external_id: item for itemid, item in data.items.items()}


def main() -> None:
    """Reads lists of the running server, and compares its memory before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--seed", type=int, default=0, help="other requests")
    arguments = parser.parse_args()
    own, data = Settings(), ServingData.load()
    url = f"http://{own.web_host}:{own.web_port}"
    token = own.events_token.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    session = requests.Session()
    session.trust_env = False  # no proxy of the environment has a say in how the own server is reached

    def post(path: str, content: Any) -> requests.Response:
        return session.post(f"{url}{path}", json=content, headers=headers, timeout=5)

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    reader = ListReader(readable_items(data), data.some_users, post)
    read_lists(
        schema, reader, arguments.requests // 10, arguments.seed
    )  # what the first requests allocate does not count as growth
    before = memory(own)
    read_lists(schema, reader, arguments.requests, arguments.seed + arguments.requests)
    after = memory(own)
    report = {
        "dataset": data.dataset,
        "seed": own.seed,
        "machine": machine(),
        "requests": reader.made,
        "lists": reader.full,
        "narrowed": reader.narrowed,
        "further_pages": reader.paged,
        "memory_before_mib": before / 2**20,
        "memory_after_mib": after / 2**20,
    }
    write_report(own, "list_requests", report)
    print(
        f"{reader.made:,} requests: {reader.full:,} lists with items, {reader.narrowed:,} asked for with a filter, "
        f"{reader.paged:,} further pages; no breach, no repeat, no 5xx"
    )
    print(f"memory of the web server {before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after")
    assert after < before * GROWTH, "the memory grows"


if __name__ == "__main__":
    run_stage(main)
