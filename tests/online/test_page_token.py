"""Establishes that the page can rate where EVENTS_TOKEN is set: it asks for the token, and the page alone keeps it."""

import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from data_exchange_center.settings import Settings
from online.main.app import create_app
from tests.online.stand_ins import Make, Services

TOKEN = "ä secret"


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def page(browser: Browser, make: Make, services: Services) -> Iterator[Page]:
    """The page of a server on stand-ins."""
    app = create_app(Settings(events_token=TOKEN), make(services))  # type: ignore[arg-type]
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/?user=1")
    expect(page.locator("#items tr").first).to_be_visible()
    yield page
    page.close()
    server.shutdown()


def rate(page: Page, row: int, stars: str) -> None:
    page.locator("#items tr").nth(row).get_by_role("combobox").select_option(stars)


def give(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Use it").click()


def test_the_token_is_asked_for_once_and_a_wrong_one_is_told_of(page: Page, services: Services) -> None:
    rate(page, 0, "5")
    expect(page.locator("#status")).to_contain_text("To rate, give the token")
    assert not services.live
    give(page, "another")
    expect(page.locator("#status")).to_contain_text("the token is wrong")
    give(page, TOKEN)
    expect(page.locator("#status")).to_contain_text("Rated Item")
    expect(page.locator("#ask")).to_be_hidden()
    assert len(services.live[1].events) == 1
    with page.expect_response("**/events"):  # what the page says is what it said of the first
        rate(page, 1, "4")
    assert len(services.live[1].events) == 2 and page.locator("#ask").is_hidden()


def test_ratings_that_were_given_meanwhile_wait_with_the_first(page: Page, services: Services) -> None:
    for row, stars in enumerate(("5", "4")):
        rate(page, row, stars)
        expect(page.locator("#status")).to_contain_text("To rate, give the token")
    give(page, TOKEN)
    expect(page.locator("#status")).to_contain_text("4")
    assert sorted(event.rating for event in services.live[1].events) == [4, 5]
