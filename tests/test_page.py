"""Establishes that a person can use the page: in the machine's own Chromium, on the real servers."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from data_exchange_center import catalogue
from tests.conftest import Stack


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A page that fails the test when anything was logged on the console, or any file came from elsewhere."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    own = (stack.url, "data:")
    page.on("request", lambda request: None if request.url.startswith(own) else faults.append(request.url))
    yield page
    context.close()
    assert not faults


def test_a_person_picks_a_user_rates_an_item_and_sees_the_list_change(
    page: Page, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTEFACTS_DIR", str(stack.artefacts))
    userid = str(catalogue.USER_FILTER.load()["userid"][30])
    page.goto(stack.url)
    expect(page.locator("#items tr")).to_have_count(50)  # of the first user
    page.get_by_label("User").fill(userid)
    with page.expect_response(f"**/recommend?userid={userid}&*") as listed:
        page.get_by_role("button", name="Show").click()
    expect(page.locator("#status")).to_contain_text(f"User {userid}")
    rows = page.locator("#items tr")
    expect(rows).to_have_count(50)
    expect(page.locator("#timing div")).to_have_count(4)
    expect(page.locator("#history li")).to_have_count(10)

    title = rows.nth(4).locator("td").nth(1).inner_text().splitlines()[0]
    itemid = rows.nth(4).get_attribute("data-itemid")
    with page.expect_request("**/events") as rated:
        rows.nth(4).get_by_role("combobox").select_option("5")
    assert rated.value.post_data_json["request_id"] == listed.value.headers["x-request-id"]
    expect(page.locator("#status")).to_contain_text(f"Rated {title} 5")
    expect(page.locator(f'#items tr[data-itemid="{itemid}"]')).to_have_count(0)
    expect(rows).to_have_count(50)
    expect(page.locator("#history li").first).to_contain_text(title)
    assert page.url.endswith(f"?user={userid}")


def test_by_keyboard(page: Page, stack: Stack) -> None:
    page.goto(stack.url)
    expect(page.locator("#items tr")).to_have_count(50)
    for link in ("Lists", "Operations"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name=link)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("User", exact=True)).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("0")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("not known: popular items")
    expect(page.locator("#items select").first).to_be_disabled()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Another user")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#items select").first).to_be_enabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_light_and_dark(scheme: str, browser: Browser, stack: Stack) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(stack.url)
    expect(page.locator("#items tr")).to_have_count(50)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground.strip("rgb()").split(","))) < 384) == (scheme == "dark")
    context.close()


def test_bad_input_is_reported(browser: Browser, stack: Stack) -> None:
    page = browser.new_page()  # not the one above: Chromium itself logs the refused request
    page.goto(stack.url)
    expect(page.locator("#items tr")).to_have_count(50)
    page.evaluate("show('99999999999999999999')")
    expect(page.locator("#status")).to_contain_text("No list: userid")
    expect(page.locator("#items tr")).to_have_count(50)  # what was there stays
    page.close()
