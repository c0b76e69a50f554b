"""Establishes that the service keeps what /openapi.json promises, for requests that nobody thought of."""

import time

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from data_exchange_center.settings import Settings
from online.main import contract
from online.main.app import create_app
from tests.online.stand_ins import Services, engine_on

app = create_app(Settings(), engine_on(Services()))
ASKED = int(time.time())
schema = schemathesis.openapi.from_wsgi("/openapi.json", app)


LATEST = schema.raw_schema["components"]["schemas"]["Event"]["properties"]["ts"]["maximum"]


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest time of an event moves on, and the document says what it was when it was asked for."""
    assert 0 <= LATEST - contract.CLOCKS_DIFFER - ASKED <= 5
    monkeypatch.setattr(contract, "_latest", lambda: LATEST)


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_contract_is_kept(case: schemathesis.Case) -> None:
    """Status, content type and every response's schema; bad requests refused, good ones taken; no 5xx."""
    case.call_and_validate()


def test_every_path_is_described() -> None:
    described = set(app.test_client().get("/openapi.json").json["paths"])
    served = {rule.rule for rule in app.url_map.iter_rules()}
    assert described == served - {"/", "/static/<path:filename>", "/metrics", "/openapi.json"}
