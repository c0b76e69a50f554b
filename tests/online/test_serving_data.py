"""Establishes what the server takes from the artefacts, for integer ids and for text ids."""

from pathlib import Path

import numpy as np
import pytest

from data_exchange_center import catalogue
from data_exchange_center.external_ids import internal_id
from data_exchange_center.features import declare
from offline.preprocess import s1_data_split, s2_term_trans
from offline.preprocess.synthetic.files import generate
from offline.preprocess.synthetic.scale import Scale
from online import serving_data
from online.serving_data import MOST_USERS, ServingData
from testkit.dataset import FEATURES
from testkit.shop import write_shop


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ServingData:
    """The data of the folder's raw files, as far as preprocessing makes them."""
    monkeypatch.setenv("DATA_DIR", str(folder))
    monkeypatch.setenv("ARTEFACTS_DIR", str(folder.parent / "artefacts"))
    monkeypatch.setattr(serving_data, "load_digest", lambda: "l")
    s1_data_split.main()
    s2_term_trans.main()
    vectors = catalogue.SEQUENCE_ITEM_VECTORS
    vectors.file.parent.mkdir(parents=True, exist_ok=True)
    vectors.write(vectors.file, np.ones((catalogue.DATASET.load().id_sizes["itemid"], 3)))
    return ServingData.load()


def test_integer_ids_are_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path / "raw", Scale(users=500, items=300, ratings=12_000, max_userid=900, max_itemid=400), seed=2)
    data = loaded(tmp_path / "raw", monkeypatch)
    known = catalogue.USER_FILTER.load()["userid"].to_pylist()
    assert list(data.users) == known and len(known) > 2 * MOST_USERS > 0
    assert set(data.some_users) < set(known) and MOST_USERS <= len(data.some_users) <= 2 * MOST_USERS
    assert not data.text_ids and {item.external_id for item in data.items.values()} == {None}
    assert data.features is FEATURES is declare(catalogue.DATASET.load().categories)
    assert data.feature_hash == catalogue.DATASET.load().feature_hash
    assert data.table.ids.tolist() == sorted(data.items) and (data.popular_rows >= 0).all()
    assert all(f"({item.year})" in item.title for item in data.items.values())
    ids = [itemid for itemid, item in data.items.items() if item.index][:3]
    assert data.vectors_of([*ids, -7]).tolist() == [[1, 1, 1]] * len(ids) + [[0, 0, 0]]


def test_text_ids_are_known_as_they_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = write_shop(tmp_path / "shop")
    data = loaded(tmp_path / "shop", monkeypatch)
    assert sorted(data.some_users) == sorted(orders["customer"].unique())
    assert sorted(map(internal_id, data.some_users)) == list(data.users)
    named = {internal: item.external_id for internal, item in data.items.items()}
    assert set(named.values()) >= set(orders["sku"].unique())
    assert all(internal_id(external) == internal for internal, external in named.items() if external)
    assert data.text_ids == {"userid", "itemid"} and (data.scale.lowest, data.scale.highest) == (1, 10)
