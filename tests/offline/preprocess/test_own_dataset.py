"""Establishes what becomes of an own table in the first stages: ids, categories, ratings, the features that follow."""

import logging
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_exchange_center import catalogue
from data_exchange_center.artefact import ArtefactError
from data_exchange_center.external_ids import internal_id
from offline.preprocess import encoding, s1_data_split, s2_term_trans
from offline.preprocess.encoding import categories_of
from offline.rank import s1_feature_engi
from offline.recall import s1_term_recall

USERS = [str(uuid.UUID(int=number * 2**90 + 7)) for number in range(1, 31)]
ITEMS = [f"{number:03}" for number in range(1, 41)]
DESCRIPTION = 'positive_above = 5\nonline_rows = 4\n[items]\ntitle = "name"\n'
PEOPLE = pd.DataFrame({"userid": USERS[:-1], "land": ["中国", "Österreich", ""] * 9 + ["中国", None], "pro": True})
THINGS = pd.DataFrame(
    {
        "itemid": ITEMS[1:],
        "name": [None, *(f"Thing {item}" for item in ITEMS[2:])],
        "genres": ["Sci-Fi|toys| Toys |", "", None, *["toys"] * 36],
        "index": [number % 3 for number in range(39)],
    }
)


def ratings() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = [
        {"userid": user, "itemid": item, "rating": int(rng.integers(0, 11)), "timestamp": 1_700_000_000 + 60 * place}
        for user in USERS
        for place, item in enumerate(rng.permutation(ITEMS)[:30])
    ]
    return pd.DataFrame(rows)


def split(
    folder: Path, monkeypatch: pytest.MonkeyPatch, description: str = DESCRIPTION, **tables: pd.DataFrame
) -> None:
    """Runs s1 on these tables, each of which is the file of its name."""
    folder.mkdir(exist_ok=True)
    (folder / "dataset.toml").write_text(description, "utf-8")
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    monkeypatch.setenv("DATA_DIR", str(folder))
    monkeypatch.setenv("ARTEFACTS_DIR", str(folder.parent / "artefacts"))
    s1_data_split.main()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The ratings of an own table that s1 has read."""
    rows = ratings()
    split(tmp_path / "shop", monkeypatch, ratings=rows, users=PEOPLE, items=THINGS)
    return rows


def test_the_data_set_says_what_its_ids_ratings_and_categories_are(shop: pd.DataFrame) -> None:
    dataset = catalogue.DATASET.load()
    assert set(dataset.text_ids) == {"userid", "itemid"} and dataset.online_rows == 4
    assert (dataset.scale.lowest, dataset.scale.highest, dataset.scale.positive_above) == (0, 10, 5)
    assert dataset.rows.online == 4 * len(USERS) and dataset.rows.positives == (shop["rating"] > 5).sum()
    assert dataset.categories.genres == ("Sci-Fi", "Toys", "toys")
    assert dataset.categories.user == {"user_land": ("Österreich", "中国"), "user_pro": ("True",)}
    assert dataset.categories.item == {"item_index_column": ("0", "1", "2")}


def test_every_id_is_kept_as_it_came_and_stands_for_one_integer(shop: pd.DataFrame) -> None:
    users, items = catalogue.USERS.load().to_pandas(), catalogue.ITEMS.load().to_pandas()
    assert sorted(users["external_userid"]) == sorted(USERS), "also the one whom the ratings alone know"
    assert sorted(items["external_itemid"]) == sorted(ITEMS)
    assert users["userid"].tolist() == sorted(map(internal_id, USERS))
    assert items["itemid"].tolist() == [internal_id(item) for item in items["external_itemid"]]
    assert internal_id(7) == 7 != internal_id("7") and 0 < internal_id("7") < 2**63
    impressions = pd.concat(
        [a.load().to_pandas() for a in (catalogue.OFFLINE_IMPRESSIONS, catalogue.ONLINE_IMPRESSIONS)]
    )
    texts = impressions["userid"].map(users.set_index("userid")["external_userid"])
    pairs = set(zip(texts, impressions["itemid"].map(items.set_index("itemid")["external_itemid"]), strict=True))
    assert pairs == set(zip(shop["userid"], shop["itemid"], strict=True))


def test_categories_are_encoded_and_what_is_missing_is_unknown(shop: pd.DataFrame) -> None:
    users = catalogue.USERS.load().to_pandas().set_index("external_userid")
    assert users.loc[USERS, "user_land"].tolist() == [2, 1, 0] * 9 + [2, 0, 0]
    assert users.loc[USERS, "user_pro"].tolist() == [1] * 29 + [0]
    items = catalogue.ITEMS.load().to_pandas().set_index("external_itemid")
    assert items.loc[ITEMS, "item_index_column"].tolist() == [0, *(number % 3 + 1 for number in range(39))]
    assert items.loc[["001", "002", "003"], "title"].tolist() == ["001", "002", "Thing 003"]
    assert [list(names) for names in items.loc[["001", "002", "003", "005"], "genres"]] == [
        [],
        ["Sci-Fi", "toys", "Toys"],
        [],
        ["toys"],
    ]


def test_the_features_follow_and_the_stages_after_it_work(shop: pd.DataFrame) -> None:
    for stage in (s2_term_trans, s1_term_recall, s1_feature_engi):
        stage.main()
    features = catalogue.DATASET.load().features
    assert features.user_columns == (
        *("user_index", "user_land", "user_pro"),
        *("imp_sci_fi", "imp_toys", "imp_toys_3", "clk_sci_fi", "clk_toys", "clk_toys_3"),
    )
    assert features.item_columns == ("item_index", "item_index_column", "genre_sci_fi", "genre_toys", "genre_toys_3")
    frame = catalogue.TRAINING_FRAME.load()
    assert tuple(frame.column_names[1:-2]) == features.columns
    assert set(catalogue.FEATURE_META.load().vocabulary_sizes) == set(features.sparse_columns)
    assert set().union(*catalogue.USER_TERM.load()["terms"].to_pylist()) <= set(features.categories.genres)


def test_ratings_alone_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No users, no items, no genres: one genre that no item has keeps the model's dense input from being empty."""
    split(tmp_path / "alone", monkeypatch, "positive_above = 5", ratings=ratings())
    dataset = catalogue.DATASET.load()
    assert dataset.categories.genres == encoding.NO_GENRES and not dataset.categories.user | dataset.categories.item
    assert catalogue.ITEMS.load()["title"].to_pylist() == catalogue.ITEMS.load()["external_itemid"].to_pylist()
    for stage in (s2_term_trans, s1_term_recall, s1_feature_engi):
        stage.main()
    assert not catalogue.ITEM_GENRES.load()["genre_unlisted"].to_numpy().any()
    assert not any(catalogue.USER_TERM.load()["terms"].to_pylist())


def test_integer_ids_have_no_second_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ratings().assign(itemid=lambda table: table["itemid"].astype(int))
    split(tmp_path / "shop", monkeypatch, "positive_above = 5", ratings=rows)
    assert catalogue.DATASET.load().text_ids == ("userid",)
    assert catalogue.ITEMS.load()["itemid"].to_pylist() == list(range(1, 41))
    assert "external_itemid" not in catalogue.ITEMS.load().column_names


def test_only_the_commonest_categories_are_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(encoding, "MOST_CATEGORIES", 2)
    monkeypatch.setattr(encoding, "MOST_GENRES", 1)
    users = pd.DataFrame({"userid": range(6), "user_city": ["b", "c", "a", "c", "b", None]})
    items = pd.DataFrame({"itemid": [1, 2], "title": "", "genres": [["x", "y"], ["y"]]})
    with caplog.at_level(logging.WARNING):
        found = categories_of(users, items)
    assert found.user == {"user_city": ("b", "c")} and found.genres == ("y",)
    assert "user_city has 3 different values: the 2 commonest are categories, the others unknown" in caplog.text


def test_tables_of_other_categories_are_refused(
    shop: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ratings with other genres: what was counted for the former ones is not taken for the counts of these."""
    s2_term_trans.main()
    other: dict[str, Any] = {"ratings": shop, "users": PEOPLE, "items": THINGS.assign(genres="Garden")}
    split(tmp_path / "shop", monkeypatch, **other)
    with pytest.raises(ArtefactError, match=r"another schema .* run offline/preprocess/s2_term_trans.py again"):
        catalogue.HISTORY.load()
