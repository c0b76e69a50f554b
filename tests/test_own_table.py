"""Follows an own table with text ids through `make run`: what goes in as a UUID comes out as that UUID, everywhere."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from playwright.sync_api import Browser, expect

from benchmarks.quality.artefact_backends import ArtefactBackends
from benchmarks.quality.server_lists import compare_with_server
from benchmarks.quality.systems import recommend
from testkit.shop import GENRES, write_shop
from testkit.stack import in_force, settings_of_its_own
from tests.conftest import CHECK, ROOT, succeed

NEW = "new customer/ü"


class Shop:
    """The running shop, and the orders that it was made from."""

    def __init__(self, env: dict[str, str], orders: pd.DataFrame, printed: str) -> None:
        self.env, self.orders, self.printed = env, orders, printed
        self.url = f"http://127.0.0.1:{env['WEB_PORT']}"

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        response = requests.get(self.url + path, parameters, timeout=10)
        assert response.status_code == 200, response.text
        content: dict[str, Any] = response.json()
        return content

    def rate(self, userid: str, itemid: str, rating: float) -> requests.Response:
        event = {"userid": userid, "itemid": itemid, "rating": rating, "ts": int(time.time())}
        return requests.post(f"{self.url}/events", json=event, timeout=10)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """`make run` on an own table, with servers of its own."""
    folder: Path = tmp_path_factory.mktemp("own table") / "the shop"
    orders = write_shop(folder)
    with settings_of_its_own() as own:
        env = {**own, "DATA_DIR": str(folder), "WEB_WORKERS": "1"}
        run = ["make", "--no-print-directory", "--old-file=install", "run"]
        done = subprocess.run(
            run, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield Shop(env, orders, done.stdout)


def test_make_run_prints_a_list_with_the_ids_of_the_table(shop: Shop) -> None:
    lines = shop.printed.strip().splitlines()
    assert any(f"user {customer}: dataset the shop" in lines[-1] for customer in shop.orders["customer"].unique())
    listed = [line for line in lines[-11:-1] if any(sku in line for sku in shop.orders["sku"].unique())]
    assert len(listed) == 10


def test_ids_come_back_as_they_came_and_nothing_seen_is_recommended(shop: Shop) -> None:
    customers = shop.get("/users")["users"]
    assert len(customers) == shop.orders["customer"].nunique()
    for customer in customers[::40]:
        found = shop.get("/recommend", userid=customer, size=20)
        assert found["userid"] == customer and not found.get("degraded") and not found.get("fallback")
        skus = {item["itemid"] for item in found["items"]}
        orders = shop.orders[shop.orders["customer"] == customer].sort_values("bought_at", kind="stable")
        assert len(skus) == 20 and skus <= set(shop.orders["sku"]) - set(orders["sku"][:-5])
        assert {genre for item in found["items"] for genre in item["genres"]} <= set(GENRES)
        history = shop.get("/history", userid=customer)["items"]
        assert [line["itemid"] for line in history] == orders["sku"].tolist()[:-5][: -len(history) - 1 : -1]
        assert [line["rating"] for line in history] == orders["stars"].tolist()[:-5][: -len(history) - 1 : -1]


def test_a_new_customer_has_a_list_of_their_own_after_one_rating_and_the_check_holds(shop: Shop) -> None:
    assert shop.get("/recommend", userid=NEW)["fallback"] == "cold_start"
    sku = shop.orders["sku"][0]
    assert shop.rate(NEW, sku, 10).json() == {"accepted": 1, "duplicates": 0}
    found = shop.get("/recommend", userid=NEW)
    assert found["userid"] == NEW and "fallback" not in found and sku not in {i["itemid"] for i in found["items"]}
    assert [line["itemid"] for line in shop.get("/history", userid=NEW)["items"]] == [sku]
    assert "are equal offline and online" in succeed(CHECK, **shop.env)


@pytest.mark.parametrize(("field", "value"), [("itemid", "no such thing"), ("rating", 11), ("userid", 7)])
def test_what_the_table_does_not_have_is_refused(shop: Shop, field: str, value: Any) -> None:
    event = {"userid": NEW, "itemid": shop.orders["sku"][0], "rating": 9, field: value}
    response = shop.rate(event["userid"], event["itemid"], event["rating"])
    assert response.status_code in (400, 404) and response.json()["error"]["field"] == field


def test_the_evaluation_finds_the_same_lists_on_the_server_and_the_artefacts(shop: Shop) -> None:
    with in_force(shop.env) as settings:
        backends = ArtefactBackends.load()
        users = sorted(backends.recall_store.users)
        own = recommend(users, backends, "recommender on artefacts")
        expected = {user: list(found.items) for user, found in own.items()}
        served, compared = compare_with_server(settings, users, expected)
    assert compared["users_compared"] == len(users) - compared["left_out_for_their_events"] > 100
    assert set(served) == set(users)


def test_the_page_shows_and_takes_text_ids(shop: Shop, browser: Browser) -> None:
    customer = shop.get("/users")["users"][3]
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{shop.url}/?user={customer}")
    expect(page.locator("#status")).to_contain_text(f"User {customer}")
    rows = page.locator("#items tr")
    expect(rows).to_have_count(50)
    sku = rows.nth(2).get_attribute("data-itemid")
    assert sku in set(shop.orders["sku"])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a UUID is wider than the phone"
    rows.nth(2).get_by_role("combobox").select_option("10")
    expect(page.locator("#status")).to_contain_text("Rated")
    expect(page.locator(f'#items tr[data-itemid="{sku}"]')).to_have_count(0)
    page.close()
