"""Establishes that everything works together on the four real servers: loaders, check, requests, reloads, outages."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import requests
from onnx import numpy_helper

from data_exchange_center import catalogue
from data_exchange_center.elasticsearch_scores import TERM_BONUS
from data_exchange_center.limits import VECTOR_RECALL_SIZE
from data_exchange_center.serving_names import ES_ALIAS, REDIS_RECENT, REDIS_VECTOR, USER_HISTORY
from data_exchange_center.settings import Settings
from data_exchange_center.triton_models import MODELS
from offline_to_online.__main__ import LOADERS
from offline_to_online.recall.user_recall import users_to_load
from online.callers.es_caller import elasticsearch_client
from online.callers.redis_caller import redis_client
from services.processes import Recorder
from testkit.dataset import FEATURES
from tests.conftest import CHECK, ROOT, Stack, run_module, succeed


def some_users(count: int) -> list[int]:
    users = catalogue.USER_FILTER.load()["userid"].to_pylist()
    return users[:: max(len(users) // count, 1)][:count]


def test_users_get_fifty_unseen_items_in_order(served: Stack) -> None:
    seen = dict(zip(*catalogue.USER_FILTER.load().to_pydict().values(), strict=True))
    titles = dict(zip(*catalogue.ITEMS.load(["itemid", "title"]).to_pydict().values(), strict=True))
    lists = []
    for user in some_users(30):
        response = served.recommend(user, diversity=0)
        items = response["items"]
        assert len(items) == 50 and "degraded" not in response and "fallback" not in response
        assert (response["userid"], response["dataset"]) == (user, "hundred-thousand") and response["model_version"]
        assert not {item["itemid"] for item in items} & set(seen[user])
        assert all(item["title"] == titles[item["itemid"]] for item in items)
        order = [(-item["score"], item["itemid"]) for item in items]
        assert order == sorted(order)
        for item in items:
            assert item["logit"] is not None and item["recall_score"] != item["score"]
            assert item["recalled_by"] and set(item["recalled_by"]) <= {"term", "vector"}
        lists.append(tuple(item["itemid"] for item in items))
    assert len(set(lists)) > 25  # users do not all get the same list


def test_candidates_are_those_of_the_exact_search(served: Stack) -> None:
    """The funnel that the ranker was trained on, against Elasticsearch: same items, same recall scores."""
    users = users_to_load()
    items = catalogue.ITEMS.load()
    vectors = catalogue.SEQUENCE_ITEM_VECTORS.load()[items["item_index"].to_numpy()]
    ids = items["itemid"].to_numpy()
    for user in some_users(10):
        response = served.recommend(user, size=200)
        assert len(response["items"]) == 200
        products = dict(zip(ids.tolist(), (vectors @ np.float32(users[user].vector)).tolist(), strict=True))
        by_vector = [item for item in response["items"] if "vector" in item["recalled_by"]]
        size = VECTOR_RECALL_SIZE if users[user].terms else 200
        assert len(by_vector) == size
        for item in by_vector:
            bonus = TERM_BONUS * ("term" in item["recalled_by"])
            assert item["recall_score"] == pytest.approx(products[item["itemid"]] + bonus, rel=1e-4, abs=1e-4)
        nearest = sorted(set(products) - set(users[user].seen), key=lambda item: -products[item])[:size]
        assert {item["itemid"] for item in by_vector} == set(nearest)
        genres = {item["itemid"]: set(item["genres"]) for item in response["items"]}
        for item in response["items"]:
            assert ("term" in item["recalled_by"]) == bool(genres[item["itemid"]] & set(users[user].terms))


def test_unknown_users_get_popular_items(served: Stack) -> None:
    popular = catalogue.POPULAR_ITEMS.load()["itemid"].to_pylist()
    response = served.recommend(987_654_321, size=7)
    assert response["fallback"] == "cold_start" and [item["itemid"] for item in response["items"]] == popular[:7]


def test_post_and_bad_input(served: Stack) -> None:
    user = some_users(1)[0]
    by_post = requests.post(f"{served.url}/recommend", json={"userid": user, "size": 3}, timeout=5).json()
    assert by_post == served.recommend(user, size=3)
    for query, field in (("", "userid"), ("?userid=-1", "userid"), ("?userid=1&size=0", "size")):
        response = requests.get(f"{served.url}/recommend{query}", timeout=5)
        assert response.status_code == 400 and response.json()["error"]["field"] == field


def test_the_client_prints_a_table(served: Stack) -> None:
    user = some_users(1)[0]
    printed = succeed("online.main.s2_client", "--userid", str(user), "--size", "5", **served.env)
    response = served.recommend(user, size=5)
    assert all(item["title"] in printed for item in response["items"]) and "hundred-thousand" in printed
    refused = run_module("online.main.s2_client", "--userid", "x", **served.env)
    assert refused.returncode == 1 and refused.stderr.startswith("error: userid")


def test_status_shows_four_ready_servers(served: Stack) -> None:
    assert succeed("services", "status", **served.env).count(" ready ") == 4


def test_elasticsearch_asks_for_its_password(served: Stack) -> None:
    assert requests.get(f"http://127.0.0.1:{served.env['ES_PORT']}/{ES_ALIAS}", timeout=5).status_code == 401


def test_feasts_service_returns_every_feature_of_a_user(served: Stack) -> None:
    user = some_users(1)[0]
    response = requests.post(
        f"http://127.0.0.1:{served.env['FEAST_PORT']}/get-online-features",
        json={"feature_service": "ml_user", "entities": {"userid": [user]}},
        timeout=5,
    ).json()
    found = dict(zip(response["metadata"]["feature_names"], response["results"], strict=True))
    assert set(found) == {"userid", *(c for c in FEATURES.columns if "genre" not in c)} - {"item_index"}
    expected = catalogue.USER_FEATURES.load().to_pandas().set_index("userid").loc[user]
    assert {name: column["values"] for name, column in found.items() if name != "userid"} == {
        name: [value] for name, value in expected.items()
    }


# --- the consistency check ---------------------------------------------------------------------------------------


def test_the_check_passes(served: Stack) -> None:
    printed = succeed(CHECK, **served.env)
    assert "features of 943 users are equal" in printed and "features of 1,682 items are equal" in printed


def refused_check(stack: Stack, **env: str) -> str:
    done = run_module(CHECK, **{**stack.env, **env})
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_one_altered_value_in_feast_fails_the_check(served: Stack) -> None:
    """Written through Feast's own server, as any writer would."""
    user = some_users(5)[3]
    features = catalogue.USER_FEATURES.load().to_pandas().set_index("userid").loc[user]
    row = {"userid": [user], **{name: [int(features[name])] for name in FEATURES.history_counts}}

    def write(value: int) -> None:
        response = requests.post(
            f"http://127.0.0.1:{served.env['FEAST_PORT']}/write-to-online-store",
            json={
                "feature_view_name": USER_HISTORY.name,
                "df": {
                    **row,
                    "clk_drama": [value],
                    "event_timestamp": [time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 5))],
                },
            },
            timeout=10,
        )
        assert response.status_code == 200, response.text

    right = int(features["clk_drama"])
    write(right + 1)
    try:
        printed = refused_check(served)
        assert "clk_drama" in printed and str(user) in printed
        assert "features of 943 users differ" in printed and "1 places" in printed
    finally:
        write(right)
    succeed(CHECK, **served.env)


@pytest.mark.parametrize(
    ("model", "weight", "place"),
    [
        ("ml_rec", "deepfm.groups.16.table", (17, 3)),
        ("ml_rec", "rank.attention.queries.weight", (2, 5)),
        ("ml_rec", "like.mlp.0.weight", (3, 3)),
        ("ml_user_tower", "attention.liked_values.weight", (4, 4)),
    ],
)
def test_one_altered_weight_fails_the_check(model: str, weight: str, place: tuple[int, int], served: Stack) -> None:
    """In the file that Triton serves, by the least that a float can differ."""
    file = max((served.artefacts / "online/triton" / model).glob("*/model.onnx"), key=lambda f: int(f.parent.name))
    original = file.read_bytes()
    content = onnx.load(file)
    tensor = next(t for t in content.graph.initializer if t.name == weight)
    values = numpy_helper.to_array(tensor).copy()
    values[place] = np.nextafter(values[place], np.float32(np.inf))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    try:
        file.write_bytes(content.SerializeToString())
        printed = refused_check(served)
        assert f"{model}: weight {weight}{list(place)}" in printed and "the weights of both models differ" in printed
    finally:
        file.write_bytes(original)


@pytest.mark.parametrize(
    ("key", "change", "what"),
    [
        (
            REDIS_RECENT,
            lambda recent: [[recent[0][0], recent[0][1] % 5 + 1, recent[0][2]], *recent[1:]],
            "last impressions",
        ),
        (REDIS_RECENT, lambda recent: recent[1:], "impressions"),
        (REDIS_VECTOR, lambda vector: [vector[0] + 1e-4, *vector[1:]], "vectors of 943 users"),
        (REDIS_VECTOR, lambda vector: [], "vectors of 943 users"),
    ],
)
def test_one_altered_sequence_or_vector_in_redis_fails_the_check(
    key: str, change: Callable[[list], list], what: str, served: Stack
) -> None:
    user = some_users(5)[2]
    with redis_client(Settings(), 5) as client:
        original = client.get(key.format(user))
        client.set(key.format(user), json.dumps(change(json.loads(original))))  # type: ignore[arg-type]
        try:
            printed = refused_check(served)
            assert what in printed and str(user) in printed and "1 places" in printed
        finally:
            client.set(key.format(user), original)  # type: ignore[arg-type]


def test_one_altered_item_vector_fails_the_check(served: Stack) -> None:
    client, item = elasticsearch_client(Settings(), 10), catalogue.ITEMS.load()["itemid"].to_pylist()[7]
    original = client.get(index=ES_ALIAS, id=str(item))["_source"]

    def write(change: float) -> None:
        vector = [original["vector"][0] + change, *original["vector"][1:]]
        client.index(index=ES_ALIAS, id=str(item), document={**original, "vector": vector}, refresh=True)

    write(0.01)
    try:
        printed = refused_check(served)
        assert "the vectors of 1,682 items differ" in printed and str(item) in printed
    finally:
        write(0)
        client.close()
    succeed(CHECK, **served.env)


def test_a_swapped_column_fails_the_check(served: Stack, tmp_path: Path) -> None:
    """The model says that it was trained on another order than is declared."""
    copy = tmp_path / "artefacts"
    shutil.copytree(served.artefacts, copy)
    file = copy / catalogue.RANKER_META.path
    meta = json.loads(file.read_text())
    meta["columns"][30], meta["columns"][31] = meta["columns"][31], meta["columns"][30]
    file.write_text(json.dumps(meta))
    printed = refused_check(served, ARTEFACTS_DIR=str(copy))
    assert (
        "the order of the features differ" in printed
        and FEATURES.columns[30] in printed
        and FEATURES.columns[31] in printed
    )


# --- loaders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", LOADERS)
def test_each_loader_runs_as_a_script_from_its_own_folder(loader: str, served: Stack) -> None:
    """While the server goes on answering: a new index and a new model version are used without a restart."""
    before = served.recommend(some_users(1)[0])
    folder, name = loader.replace(".", "/").rsplit("/", 1)
    done = subprocess.run(
        [sys.executable, f"{name}.py"],
        cwd=ROOT / folder,
        env={**os.environ, **served.env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "hundred-thousand" in done.stdout, done.stdout + done.stderr
    after = served.recommend(some_users(1)[0])
    assert [item["itemid"] for item in after["items"]] == [item["itemid"] for item in before["items"]]
    assert after["model_version"] == before["model_version"]  # the same weights get no new version


def test_loaders_leave_one_alias_and_few_versions(served: Stack) -> None:
    client = elasticsearch_client(Settings(), 10)
    assert len(client.indices.get_alias(name=ES_ALIAS)) == 1
    assert len(client.indices.get(index=f"{ES_ALIAS}-*")) <= 2
    for model in MODELS:
        assert len(list((served.artefacts / "online/triton" / model.name).glob("*/model.onnx"))) <= 2
    assert not list((served.artefacts / "online/triton").glob(".*"))
    client.close()


def test_users_of_an_earlier_load_are_removed(served: Stack) -> None:
    client = redis_client(Settings(), 5)
    client.set(REDIS_VECTOR.format(31337), "[1]")
    succeed(LOADERS[0], **served.env)
    assert not client.exists(REDIS_VECTOR.format(31337))
    client.close()


# --- outages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["redis", "elasticsearch", "feast", "triton"])
def test_a_killed_server_is_left_out_and_used_again(service: str, served: Stack) -> None:
    """The list stays useful and the response says what is missing; once the server is back, it is used again."""
    user = some_users(1)[0]
    before = served.recommend(user)
    recorder = Recorder(Path(served.env["RUN_DIR"]))
    family = recorder.family(service)
    assert family
    for member in family:
        member.kill()
    response = served.recommend(user)
    assert response["degraded"] == [service] and len(response["items"]) == 50
    if service != "redis":  # whose filter is gone with it
        seen = dict(zip(*catalogue.USER_FILTER.load().to_pydict().values(), strict=True))[user]
        assert not {item["itemid"] for item in response["items"]} & set(seen)
    succeed("services", "start", **served.env)
    deadline = time.monotonic() + 30
    while "degraded" in (after := served.recommend(user)) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert "degraded" not in after
    assert [item["itemid"] for item in after["items"]] == [item["itemid"] for item in before["items"]]
