"""Establishes that an arm searches the index that it names, on the real servers, and everybody else the served one."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import flask.testing
import pytest
from elasticsearch import helpers

from data_exchange_center import catalogue
from data_exchange_center.serving_names import ES_ALIAS, ES_VECTOR
from data_exchange_center.settings import Settings
from offline_to_online.recall.item_index import create_index, fill_index
from online.callers.es_caller import elasticsearch_client
from online.main.app import create_app
from online.main.current import ENGINE

pytestmark = pytest.mark.usefixtures("served")

EXPERIMENT = """
[[experiments]]
name = "catalogue"
salt = "one"
arms = [{name = "served"}, {name = "smaller", settings = {index = "%s"}}]
"""


@pytest.fixture
def smaller() -> Iterator[tuple[str, set[int]]]:
    """A copy of the served index without every second item; its name and those items."""
    client = elasticsearch_client(Settings(), 60)
    (served,) = client.indices.get_alias(index=ES_ALIAS).body
    name, left_out = f"{served}-smaller", set(catalogue.ITEMS.load(["itemid"])["itemid"].to_pylist()[::2])
    content = [hit["_source"] for hit in helpers.scan(client, index=served) if int(hit["_id"]) not in left_out]
    create_index(client, name, len(content[0][ES_VECTOR]))
    try:
        fill_index(client, name, content)
        yield name, left_out
    finally:
        client.indices.delete(index=name)
        client.close()


def test_an_arm_finds_what_is_in_its_own_index(
    smaller: tuple[str, set[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, left_out = smaller
    (tmp_path / "experiments.toml").write_text(EXPERIMENT % name)
    monkeypatch.setenv("EXPERIMENTS_FILE", str(tmp_path / "experiments.toml"))
    app = create_app(Settings())
    client: flask.testing.FlaskClient = app.test_client()
    found: dict[str, list[set[int]]] = {"served": [], "smaller": []}
    with contextlib.closing(app.extensions[ENGINE]):
        for user in catalogue.USER_FILTER.load()["userid"].to_pylist()[:40]:
            answer = client.get(f"/recommend?userid={user}&size=20").json
            assert answer is not None and "degraded" not in answer and len(answer["items"]) == 20
            found[answer["experiments"]["catalogue"]].append({item["itemid"] for item in answer["items"]})
    assert len(found["served"]) > 5 and len(found["smaller"]) > 5
    assert all(items & left_out for items in found["served"])
    assert not any(items & left_out for items in found["smaller"])
