"""Establishes that no list that the contract allows breaches its filter or repeats an item; a breach is seen."""

import dataclasses
from typing import Any

import pytest
import schemathesis

from benchmarks.speed.list_requests import ListReader, read_lists, readable_items
from data_exchange_center.settings import Settings
from online.callers.types import EVERYTHING, Candidates, ItemFilter, UserRecall
from online.engine import Engine
from online.main.app import create_app
from tests.online.stand_ins import Services, backends_of
from tests.online.test_paging import ManyServices
from tests.online.test_rules import ITEMS, RULED

YEARS = {item: dataclasses.replace(known, year=1900 + item if item % 3 else None) for item, known in ITEMS.items()}
DATED = dataclasses.replace(RULED, items=YEARS)


class DatedServices(ManyServices):
    """Recall that filters item by item."""

    def recall(
        self, user: UserRecall, possible: int, load: str, within: ItemFilter = EVERYTHING, index: str = ""
    ) -> Candidates:
        found = super().recall(user, possible, load, ItemFilter())
        return self._passing(found, within) if self.filters else found

    filters = True


def read(services: Services, requests: int) -> ListReader:
    services.items = YEARS
    engine = Engine(backends_of(services), lambda: DATED, lambda: None, 60.0, 2)
    app = create_app(Settings(), engine)
    client: Any = app.test_client()
    reader = ListReader(readable_items(DATED), [1, 1, 2], lambda path, content: client.post(path, json=content))
    read_lists(schemathesis.openapi.from_wsgi("/openapi.json", app), reader, requests)
    engine.close()
    return reader


def test_lists_keep_to_their_filters_and_pages_repeat_nothing() -> None:
    reader = read(DatedServices(), 200)
    assert reader.made >= 200 and min(reader.full, reader.narrowed, reader.paged) > 20


def test_a_breach_is_seen() -> None:
    services = DatedServices()
    services.filters = False
    with pytest.raises(AssertionError, match="breaches a filter|again"):
        read(services, 300)
