"""Establishes that the page shows how the server fares, and what is similar and why where the server can tell."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from werkzeug.serving import make_server

from data_exchange_center.settings import Settings
from online.main.app import create_app
from tests.online.stand_ins import Make, Services

REPORT = {
    "dataset": "five items",
    "seed": 1,
    "measured_at": "2026-01-02T03:04:05Z",
    "load_digest": "another",
    "reference_lists": 20,
    "live_lists": 10,
    "columns": {
        "score: rank": {"psi": 0.5, "threshold": 0.1, "reference_mean": 1.0, "live_mean": 2.0},
        "user feature: age": {"psi": 0.01, "threshold": 0.1, "reference_mean": 3.0, "live_mean": 3.1},
    },
}


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def url(make: Make, services: Services, tmp_path: Path) -> Iterator[str]:
    """A server on stand-ins, with a drift report and a record of a stage's run."""
    (tmp_path / "drift.json").write_text(json.dumps(REPORT))
    (tmp_path / ".stages").mkdir()
    (tmp_path / ".stages/offline.rank.s2_model_train.json").write_text("{}")
    settings = Settings(events_token="secret", run_dir=tmp_path, artefacts_dir=tmp_path)  # type: ignore[arg-type]
    server = make_server("127.0.0.1", 0, create_app(settings, make(services)), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def test_the_second_view_counts_and_asks_for_the_token(page: Page, url: str, services: Services) -> None:
    page.goto(f"{url}/?user=1")
    expect(page.locator("#items tr")).to_have_count(3)
    page.get_by_role("link", name="Operations").click()
    expect(page.locator("#status")).to_contain_text("To see this, give the token")
    page.get_by_label("Token").fill("secret")
    page.get_by_role("button", name="Use it").click()
    recommend = page.locator("#requests tr", has_text="/recommend")
    expect(recommend).to_contain_text("ms")
    for service in ("redis", "elasticsearch", "feast", "triton"):
        expect(page.locator("#stages tr", has_text=service)).to_contain_text("closed")
    expect(page.locator("#versions")).to_contain_text("five items")
    expect(page.locator("#versions")).to_contain_text("model 7")
    expect(page.locator("#drift .alarm")).to_contain_text("ALARM: 1 of 2 columns have drifted")
    expect(page.locator("#drift")).to_contain_text("of another load")
    expect(page.locator("#runs")).to_contain_text("offline.rank.s2_model_train")
    services.down = ("triton",)
    assert page.evaluate("fetch('/recommend?userid=1').then((response) => response.status)") == 200
    expect(page.locator("#degraded .alarm")).to_contain_text("%")  # by the next question, two seconds later
    expect(page.locator("#degraded")).to_contain_text("without triton")
    page.get_by_role("link", name="Lists").click()
    expect(page.locator("#items tr")).to_have_count(3)
    expect(page.locator("#operations-view")).to_be_hidden()
    expect(page.locator("#status")).to_contain_text("User 1")


def test_similar_items_and_reasons_are_shown_where_the_server_knows_them(page: Page, url: str) -> None:
    """The server of this test has neither: the browser is given the answers of one that does."""

    def described(route: Route) -> None:
        document = route.fetch().json()
        document["paths"]["/similar"] = {}
        document["paths"]["/recommend"]["get"]["parameters"].append({"name": "because", "in": "query"})
        route.fulfill(json=document)

    def recommended(route: Route) -> None:
        content = route.fetch(url=route.request.url.replace("&because=true", "")).json()
        content["items"][0]["because"] = [{"itemid": 5, "title": "Item 5"}]
        route.fulfill(json=content)

    similar = {"itemid": 4, "title": "Item 4", "genres": ["Drama"], "score": 0.5}
    page.route("**/openapi.json", described)
    page.route("**/recommend?*because=true*", recommended)
    page.route("**/similar?itemid=2*", lambda route: route.fulfill(json={"itemid": 2, "items": [similar]}))
    page.goto(f"{url}/?user=1")
    expect(page.locator("#items tr").first).to_contain_text("because of Item 5")
    page.get_by_role("button", name="Item 2: similar items").click()
    expect(page.get_by_role("heading", name="Similar to Item 2")).to_be_focused()
    expect(page.locator("#similar li")).to_contain_text(["Item 4"])


def test_a_server_that_knows_neither_shows_titles_alone(page: Page, url: str) -> None:
    def earlier(route: Route) -> None:
        document = route.fetch().json()
        del document["paths"]["/similar"]
        parameters = document["paths"]["/recommend"]["get"]["parameters"]
        document["paths"]["/recommend"]["get"]["parameters"] = [p for p in parameters if p["name"] != "because"]
        route.fulfill(json=document)

    page.route("**/openapi.json", earlier)
    page.goto(f"{url}/?user=1")
    expect(page.locator("#items tr")).to_have_count(3)
    assert page.locator("#items button").count() == 0
