"""Establishes that loaders notice what a store holds otherwise, wait for Feast, and clear away an earlier version."""

import os
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import redis
import tenacity

from data_exchange_center import catalogue
from data_exchange_center.features import FeatureSet
from data_exchange_center.serving_names import FEAST_HISTORY_PUSH, FEAST_REDIS_DATABASE, REDIS_RECENT, REDIS_TERM
from data_exchange_center.settings import Settings
from offline_to_online.__main__ import LOADERS
from offline_to_online.loader import LoadError, rows_to_check, run_tasks
from offline_to_online.rank import s1_feature_to_feast
from offline_to_online.rank.expected_features import expected_features
from offline_to_online.recall import s1_user_to_redis
from offline_to_online.recall.user_recall import latest_impressions, user_slices, users_to_load, users_with_rows
from online.callers.feast_caller import FeastCaller
from online.callers.redis_caller import RedisCaller, redis_client
from online.callers.types import ServiceUnavailable
from testkit.dataset import FEATURES
from tests.conftest import CHECK, ROOT, Stack, succeed

# --- Redis -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [REDIS_TERM, REDIS_RECENT])
def test_a_damaged_user_in_redis_is_named(key: str, served: Stack) -> None:
    users, recent = users_to_load(), latest_impressions()
    victim = sorted(users)[-3]
    caller, client = RedisCaller(Settings(), 5), redis_client(Settings(), 5)
    s1_user_to_redis.check(caller, users, recent)
    original = client.get(key.format(victim))
    try:
        client.set(key.format(victim), '["Polka"]' if key == REDIS_TERM else "[]")
        with pytest.raises(LoadError, match=f"user {victim}"):
            s1_user_to_redis.check(caller, users, recent)
        client.set(key.format(victim), "no JSON")
        with pytest.raises(ServiceUnavailable, match="redis"):
            s1_user_to_redis.check(caller, users, recent)
    finally:
        client.set(key.format(victim), original)
        client.close()


def test_keys_of_others_are_left_alone_and_our_own_of_no_user_are_removed(served: Stack) -> None:
    others = ("user_filter:anna", "user_term:00123", "recsys_of_others:1")
    own = (REDIS_TERM.format("00123"), REDIS_TERM.format("anna"), REDIS_RECENT.format(2**44))
    with redis_client(Settings(), 5) as client:
        client.mset(dict.fromkeys((*others, *own), "x"))
        try:
            succeed(LOADERS[0], **served.env)
            assert [client.exists(key) for key in (*others, *own)] == [1, 1, 1, 0, 0, 0]
        finally:
            client.delete(*others, *own)


def stored_users(settings: Settings) -> dict[bytes, object]:
    """What Redis holds of all users."""
    with redis_client(settings, 5) as client:
        keys = sorted(client.scan_iter(match="recsys:user_*", count=10_000))
        return dict(zip(keys, client.mget(keys), strict=True))  # type: ignore[arg-type]


def test_two_processes_load_what_one_loads(served: Stack) -> None:
    settings, userids = Settings(), users_with_rows()
    tasks = s1_user_to_redis.tasks_of(user_slices(userids, 100), np.arange(len(userids)), None)
    before = stored_users(settings)
    for processes in (1, 2):
        with redis_client(settings, 5) as client:
            client.delete(*before)
        assert sum(run_tasks(s1_user_to_redis.load_slice, tasks, processes)) == len(userids)
        assert stored_users(settings) == before


def test_a_sample_finds_what_is_wrong_within_it_alone(served: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    userids = users_with_rows()
    checked = rows_to_check(len(userids), Settings(load_check_up_to=300))
    tasks = s1_user_to_redis.tasks_of(user_slices(userids, 100), checked, None)
    assert sum(len(task.checked) for task in tasks) == 300
    write = s1_user_to_redis.write
    for victim, is_found in ((checked[123], True), (np.setdiff1d(np.arange(len(userids)), checked)[200], False)):
        key = REDIS_TERM.format(userids[victim])

        def write_wrongly(client: redis.Redis, *rest: Any, key: str = key) -> None:
            write(client, *rest)
            if client.exists(key):
                client.set(key, '["Polka"]')

        with monkeypatch.context() as patched:
            patched.setattr(s1_user_to_redis, "write", write_wrongly)
            with pytest.raises(LoadError, match=f"user {userids[victim]}") if is_found else nullcontext():
                list(run_tasks(s1_user_to_redis.load_slice, tasks, 1))
    list(run_tasks(s1_user_to_redis.load_slice, tasks, 1))


def test_a_sample_is_stated_by_loaders_and_check(served: Stack) -> None:
    said = r"a sample of 100 of [\d,]+ {} \(LOAD_CHECK_UP_TO=100\)"
    for module, whose in ((LOADERS[0], "users"), (LOADERS[1], "items"), (CHECK, "users"), (CHECK, "items")):
        assert re.search(said.format(whose), succeed(module, **served.env, LOAD_CHECK_UP_TO="100")), module


# --- Feast -----------------------------------------------------------------------------------------------------------


def test_a_damaged_value_and_a_missing_user_in_feast_are_named(served: Stack) -> None:
    features = expected_features("user", {})
    caller = FeastCaller(Settings(), 30)
    s1_feature_to_feast.check(caller, FEATURES, "user", features)
    place = features.column_names.index("age")
    ages = features["age"].to_numpy().copy()
    ages[17] += 1
    with pytest.raises(LoadError, match=f"as age of user {features['userid'][17].as_py()}, but {ages[17]} was loaded"):
        s1_feature_to_feast.check(caller, FEATURES, "user", features.set_column(place, "age", pa.array(ages)))
    nobody = pa.table({"userid": [2**40], **{name: [0] for name in FEATURES.entity_columns("user")}})
    with pytest.raises(LoadError, match=f"holds nothing as user_index of user {2**40}"):
        s1_feature_to_feast.check(caller, FEATURES, "user", nobody)


def test_a_load_wins_over_rows_of_a_clock_that_ran_ahead(served: Stack) -> None:
    userid, hours_ahead = sorted(users_to_load())[5], 3 * 3600 * 10**9
    caller = FeastCaller(Settings(), 30)
    caller.push_history(FEATURES, userid, dict.fromkeys(FEATURES.history_counts, 9), time.time_ns() + hours_ahead)
    printed = succeed(LOADERS[3], **served.env)
    assert f"Feast holds 9 as {FEATURES.history_counts[0]} of user {userid}" in printed and "loaded again" in printed
    s1_feature_to_feast.check(caller, FEATURES, "user", expected_features("user", {}))
    assert "loaded again" not in succeed(LOADERS[3], **served.env)


def test_rows_of_another_data_set_are_deleted_and_those_of_this_one_stay(served: Stack) -> None:
    """A user whom another data set had under an id of this one would be taken for theirs."""
    caller, redis, visitor = FeastCaller(Settings(), 30), RedisCaller(Settings(), 30), 2**42
    ones = dict.fromkeys(FEATURES.history_counts, 1)
    for of_these_data, stays in ((True, True), (False, False)):
        caller.push_history(FEATURES, visitor, ones, time.time_ns())
        assert caller.features(FEATURES, "user", [visitor]).known.all()
        if not of_these_data:
            redis.set_feast_features("of other data")
        succeed(LOADERS[3], **served.env)
        assert caller.features(FEATURES, "user", [visitor]).known.tolist() == [stays]
        assert redis.feast_features() == catalogue.DATASET.load().feature_hash


def test_feasts_spark_engine_fills_the_online_store(served: Stack) -> None:
    settings = Settings()
    with redis_client(settings.model_copy(), 5) as client:
        client.execute_command("SELECT", FEAST_REDIS_DATABASE)
        client.flushdb()
    printed = succeed(LOADERS[3], **served.env, ENGINE="spark", SPARK_MASTER="local[1]", SPARK_MEMORY="1g")
    assert "every one read back over HTTP and equal" in printed and "loaded again" not in printed


class SlowRegistry:
    """A Feast server that does not know the views at first."""

    def __init__(self, failures: int) -> None:
        self.left, self.calls = failures, 0

    def features(self, declared: FeatureSet, entity: str, ids: list[int]) -> None:
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise ServiceUnavailable("feast", "no such view")


def test_the_loader_waits_until_feast_knows_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = s1_feature_to_feast.wait_for_registry.retry_with(wait=tenacity.wait_none())  # type: ignore[attr-defined]
    registry = SlowRegistry(failures=3)
    quick(registry, FEATURES)
    assert registry.calls == 3 + len(s1_feature_to_feast.ENTITIES)
    given_a_moment = s1_feature_to_feast.wait_for_registry.retry_with(  # type: ignore[attr-defined]
        wait=tenacity.wait_none(), stop=tenacity.stop_after_attempt(4)
    )
    with pytest.raises(ServiceUnavailable, match="no such view"):
        given_a_moment(SlowRegistry(failures=1000), FEATURES)


EARLIER_VERSION = f"""
from datetime import timedelta
from feast import FeatureStore, FeatureView, Field, PushSource
from feast.types import Int64
from data_exchange_center.online.feast import definitions
from data_exchange_center.settings import FEAST_REPOSITORY
view = FeatureView(
    name="user_features", entities=[definitions.entities["user"]], ttl=timedelta(0),
    schema=[Field(name="userid", dtype=Int64), Field(name="gone", dtype=Int64)],
    source=PushSource(name="{FEAST_HISTORY_PUSH}", batch_source=definitions.files["user_history"]),
)
FeatureStore(repo_path=str(FEAST_REPOSITORY)).apply([view])
"""


def test_a_view_of_an_earlier_version_is_removed_and_events_are_pushed_again(served: Stack) -> None:
    """It has the same push source, and a push lacks its columns."""
    env = {**os.environ, **served.env, **Settings().feast_environment()}
    subprocess.run([sys.executable, "-c", EARLIER_VERSION], cwd=ROOT, env=env, check=True, capture_output=True)
    caller = FeastCaller(Settings(), 30)
    counts = dict.fromkeys(FEATURES.history_counts, 1)
    deadline = time.monotonic() + 30  # Feast reads its registry again every 2 s
    with pytest.raises(ServiceUnavailable):
        while time.monotonic() < deadline:
            caller.push_history(FEATURES, 2**41, counts, time.time_ns())
            time.sleep(0.2)
    succeed(LOADERS[3], **served.env)
    caller.push_history(FEATURES, 2**41, counts, time.time_ns())
    values, known = caller.features(FEATURES, "user", [2**41])
    assert known.all() and values.sum() == len(FEATURES.history_counts)


def test_what_is_in_feast_is_what_was_trained(served: Stack) -> None:
    for entity, artefact in (("user", catalogue.USER_FEATURES), ("item", catalogue.ITEM_FEATURES)):
        table = artefact.load().to_pandas()
        found, known = FeastCaller(Settings(), 30).all_features(FEATURES, entity, table.iloc[:, 0].tolist())  # type: ignore[arg-type]
        assert known.all()
        np.testing.assert_array_equal(found, table[list(FEATURES.entity_columns(entity))].to_numpy())  # type: ignore[arg-type]
