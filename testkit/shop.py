"""An own table, made up: text ids of two kinds, categories in other scripts, ratings from 1 to 10, dates as text."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

USERS, ITEMS = 200, 300
TASTE_DIM = 4
GENRES = ("科幻", "Home & Garden", "Toys", "Café")
DESCRIPTION = """
positive_above = 6
online_rows = 5

[ratings]
file = "orders.csv"
userid = "customer"
itemid = "sku"
rating = "stars"
timestamp = "bought_at"

[users]
file = "people.parquet"
categories = ["country", "plan"]

[items]
file = "things.csv"
title = "name"
genres = "tags"
separator = ";"
"""


def write_shop(folder: Path, seed: int = 1) -> pd.DataFrame:
    """Writes the four files, and returns the orders; some people and things are in them alone."""
    rng = np.random.default_rng(seed)
    customers = [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(USERS)]
    skus = [f"{place:04}" if place % 7 == 0 else f"SKU {place}/ä" for place in range(1, ITEMS + 1)]
    tastes, kinds = rng.normal(size=(USERS, TASTE_DIM)), rng.normal(size=(ITEMS, TASTE_DIM))
    popularity, start = np.log(rng.gamma(1.0, size=ITEMS)), datetime(2023, 5, 1, tzinfo=UTC)
    rows = []
    for customer, taste in zip(customers, tastes, strict=True):
        liking = kinds @ taste
        bought = np.argsort(-(liking + popularity + rng.gumbel(size=ITEMS)))[: rng.integers(25, 70)]
        stars = np.clip(np.round(6 + 2 * liking[bought] + rng.normal(size=len(bought))), 1, 10).astype(int)
        for place, (item, star) in enumerate(zip(bought.tolist(), stars.tolist(), strict=True)):
            moment = start + timedelta(hours=place + int(rng.integers(3)))
            rows.append((customer, skus[item], star, moment.isoformat()))
    orders = pd.DataFrame(rows, columns=["customer", "sku", "stars", "bought_at"])
    orders = orders.sample(frac=1, random_state=seed, ignore_index=True)  # no file of orders is sorted by customer
    people = pd.DataFrame(
        {
            "customer": customers[:-5],
            "country": rng.choice(["DE", "FR", "中国"], USERS - 5),
            "plan": rng.choice(["free", "pro"], USERS - 5),
            "remark": "no category",
        }
    )
    things = pd.DataFrame(
        {
            "sku": skus[:-5],
            "name": [f"Thing “{place}”, blue" for place in range(1, ITEMS - 4)],
            "tags": [";".join(np.array(GENRES)[kind > 0.3]) for kind in kinds[:-5]],
            "brand": rng.choice(["Ä & Co", "Bee", ""], ITEMS - 5),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    orders.to_csv(folder / "orders.csv", index=False)
    people.to_parquet(folder / "people.parquet", index=False)
    things.to_csv(folder / "things.csv", index=False)
    (folder / "dataset.toml").write_text(DESCRIPTION, "utf-8")
    return orders
