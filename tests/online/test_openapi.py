"""Establishes that the service keeps what /openapi.json promises, for requests that nobody thought of."""

import time

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from data_exchange_center.settings import Settings
from online.engine import Engine
from online.main import list_contract
from online.main.app import create_app
from tests.online.stand_ins import Services, backends_of, engine_on
from tests.online.test_text_ids import TextServices, text_data

TEXT = text_data()

app = create_app(Settings(), engine_on(Services()))
text_app = create_app(Settings(), Engine(backends_of(TextServices(TEXT)), lambda: TEXT, lambda: None, 60.0, 2))
ASKED = int(time.time())
schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
LATEST = schema.raw_schema["components"]["schemas"]["Event"]["properties"]["ts"]["maximum"]
with pytest.MonkeyPatch.context() as patch:  # a second later, the two would not agree on it
    patch.setattr(list_contract, "_latest", lambda: LATEST)
    text_schema = schemathesis.openapi.from_wsgi("/openapi.json", text_app)
enough = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest time of an event moves on, and the document says what it was when it was asked for."""
    assert 0 <= LATEST - list_contract.CLOCKS_DIFFER - ASKED <= 5
    monkeypatch.setattr(list_contract, "_latest", lambda: LATEST)


@schema.parametrize()
@enough
def test_the_contract_is_kept(case: schemathesis.Case) -> None:
    """Status, content type and every response's schema; bad requests refused, good ones taken; no 5xx."""
    case.call_and_validate()


@text_schema.parametrize()
@enough
def test_the_contract_is_kept_where_ids_are_text(case: schemathesis.Case) -> None:
    case.call_and_validate()


def test_every_path_is_described() -> None:
    described = set(app.test_client().get("/openapi.json").json["paths"])
    served = {rule.rule for rule in app.url_map.iter_rules()}
    assert described == served - {"/", "/static/<path:filename>", "/metrics", "/openapi.json"}


def test_the_token_is_described_where_one_is_asked_for() -> None:
    engine = engine_on(Services())
    client = create_app(Settings(events_token="a secret"), engine).test_client()
    document = client.get("/openapi.json").json
    assert document is not None and "a secret" not in str(document)
    ((name, scheme),) = document["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    secured = {
        (path, verb)
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
        if operation.get("security") == [{name: []}]
    }
    assert secured == {("/events", "post"), ("/operations.json", "get")}
    open_document = app.test_client().get("/openapi.json").json
    assert open_document is not None and "security" not in str(open_document)
    engine.close()
