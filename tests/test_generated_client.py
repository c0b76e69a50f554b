"""Establishes that a client generated from /openapi.json works against the running server as it is described."""

import importlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import Stack

NEW_USER = int(time.time() * 1000)  # another one in each run


@pytest.fixture
def generated(served: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the client's package, made from what the server says of itself."""
    document, config = tmp_path / "openapi.json", tmp_path / "config.yml"
    document.write_text(requests.get(f"{served.url}/openapi.json", timeout=5).text)
    config.write_text("post_hooks: []\n")  # else it looks for formatters on the PATH
    generator = Path(sys.executable).with_name("openapi-python-client")
    arguments = ["--path", document, "--config", config, "--output-path", tmp_path / "recsys_client"]
    done = subprocess.run(
        [generator, "generate", "--meta", "none", "--fail-on-warning", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(tmp_path)
    return "recsys_client"


@pytest.fixture
def client(served: Stack, generated: str) -> Iterator[Any]:
    """The generated client, closed at the end."""
    with importlib.import_module(generated).Client(base_url=served.url, raise_on_unexpected_status=True) as client:
        yield client


def test_a_generated_client_asks_for_lists_and_sends_events(client: Any, generated: str) -> None:
    models: Any = importlib.import_module(f"{generated}.models")
    recommend, events, history = (
        importlib.import_module(f"{generated}.api.default.{name}").sync
        for name in ("post_recommend", "post_events", "get_history")
    )
    genre = models.RecommendRequestGenresItem("Comedy")
    body = models.RecommendRequest(userid=NEW_USER, size=7, genres=[genre], year_from=1950, because=True)
    first = recommend(client=client, body=body)
    assert len(first.items) == 7 and all("Comedy" in item.genres for item in first.items)
    assert (first.applied.genres, first.applied.year_from) == (["Comedy"], 1950) and first.fallback == "cold_start"
    liked = first.items[0].itemid
    event = models.Event(userid=NEW_USER, itemid=liked, rating=5, ts=int(time.time()))
    assert events(client=client, body=event).accepted == 1
    assert [rated.itemid for rated in history(client=client, userid=NEW_USER).items] == [liked]
    body.cursor = first.cursor
    second = recommend(client=client, body=body)
    assert not second.fallback and not {item.itemid for item in first.items} & {item.itemid for item in second.items}
    assert {reason.itemid for item in second.items for reason in item.because} <= {liked}
    session = models.SessionRequest(session=[models.SessionItem(itemid=liked)], size=3)
    assert len(recommend(client=client, body=session).items) == 3
    wrong = recommend(client=client, body=models.RecommendRequest(userid=1, size=201))
    assert isinstance(wrong, models.ErrorResponse) and wrong.error.field == "size"
