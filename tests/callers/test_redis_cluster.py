"""Establishes that on a real Redis Cluster nothing that was accepted is lost with a node, and lists go on meanwhile."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis

from data_exchange_center.addresses import addresses
from data_exchange_center.log_entries import LoggedEvent, Origin
from data_exchange_center.serving_names import (
    REDIS_EVENT_LOG,
    REDIS_FILTER,
    REDIS_IMPRESSIONS,
    REDIS_LOAD,
    REDIS_RECENT,
    REDIS_TERM,
)
from data_exchange_center.settings import Settings
from offline_to_online.loader import LoadError
from offline_to_online.recall import s1_user_to_redis
from online.callers.impression_stream import ImpressionStream
from online.callers.redis_cluster_caller import EVENT_SECONDS, RedisClusterCaller, redis_cluster_client
from online.callers.redis_streams import START, added, blocks_after, cut_off
from online.callers.types import Impression, LiveUser, NodeUnavailable, StoreFault, UserRecall
from services import cluster, redis_cluster
from services.processes import Recorder
from services.server import Server
from testkit.stack import cluster_nodes, settings_of_its_own

LOAD = "of-this-load"
new_users = itertools.count(10**12)


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    """Three masters and a replica of each, and nothing else of a cluster."""
    with settings_of_its_own() as own:
        chosen = Settings(
            topology="cluster",
            redis_nodes=cluster_nodes()["REDIS_NODES"],
            redis_password=own["REDIS_PASSWORD"],  # type: ignore[arg-type]
            run_dir=Path(own["RUN_DIR"]),
        )
        start_missing(chosen)
        with redis_cluster_client(chosen, 5) as client:
            client.set(REDIS_LOAD, LOAD)
        yield chosen
        recorder = Recorder(chosen.run_dir)
        for name in recorder.names():
            recorder.stop(name)  # here, since they are this process's children


def servers(settings: Settings) -> list[Server]:
    return [server for server in cluster.servers(settings) if cluster.of_service(server.name) == "redis"]


def start_missing(settings: Settings) -> None:
    """What the verb does, for Redis alone."""
    recorder = Recorder(settings.run_dir)
    missing = [server for server in servers(settings) if not recorder.running(server.name)]
    cluster.prepare(settings, missing)
    for server in missing:
        server.start(settings, recorder)
    redis_cluster.join(settings)
    deadline = time.monotonic() + 30
    while not all(server.is_ready(settings) for server in servers(settings)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def kill(settings: Settings, port: int) -> None:
    """Ends the node that listens there."""
    ports = [node.port for node in addresses(settings.redis_nodes)]
    name = servers(settings)[ports.index(port)].name
    process = Recorder(settings.run_dir).running(name)
    assert process
    process.kill()
    process.wait(5)


def nodes_of(settings: Settings, userid: int) -> tuple[int, int]:
    """The ports of the master and of the replica that have the user, once the others know that neither is away."""
    deadline = time.monotonic() + 15
    while True:
        with redis_cluster_client(settings, 5) as client:
            nodes = client.nodes_manager.slots_cache[client.keyslot(REDIS_TERM.format(userid))]
        if len(nodes) == 2:
            return int(nodes[0].port), int(nodes[1].port)
        assert time.monotonic() < deadline, nodes
        time.sleep(0.1)


@pytest.fixture
def caller(settings: Settings) -> RedisClusterCaller:
    return RedisClusterCaller(settings, 1)


def rate(*items: int) -> Callable[[LiveUser], LiveUser]:
    """The change that adds an impression of each of these items, once."""

    def change(user: LiveUser) -> LiveUser:
        added = tuple(Impression(item, 5.0, 1) for item in items if item not in user.seen)
        if not added:
            return user
        seen = (*user.seen, *(impression.itemid for impression in added))
        return LiveUser(("Drama",), seen, (*user.recent, *added), (*user.events, *added))

    return change


def test_users_are_changed_and_read_as_on_one_redis(caller: RedisClusterCaller) -> None:
    users = [next(new_users) for _ in range(20)]  # on all masters
    assert caller.user(users[0], LOAD) is None and caller.recent(users[:1]) == [()]
    assert caller.update({user: rate(7) for user in users}, LOAD) == dict.fromkeys(users, 1)
    assert caller.update({users[0]: rate(7, 8)}, LOAD) == {users[0]: 1}, "an event counts once"
    expected = UserRecall(("Drama",), (), (7,), (Impression(7, 5.0, 1),))
    assert caller.users(users)[1:] == [expected] * 19 and caller.user(users[1], LOAD) == expected
    assert caller.recent(users)[1:] == [(Impression(7, 5.0, 1),)] * 19
    assert set(users) <= set(caller.unpushed()) and set(users) <= set(caller.events())
    assert caller.set_vector(users[1], expected.recent, np.float32([1, 2])) is True
    assert caller.set_vector(users[0], expected.recent, np.float32([1, 2])) is False, "an event came in since"
    caller.pushed(users[1])
    assert users[1] not in caller.unpushed()


def test_events_and_lists_are_logged(caller: RedisClusterCaller, settings: Settings) -> None:
    users = [next(new_users) for _ in range(5)]

    def answer(user: LiveUser) -> LiveUser:
        origin = Origin(userid=users[len(user.events)], itemid="text", request_id="r")
        event = Impression(1, 4.5, 9, origin)
        return LiveUser((), (1,), (event,), (event,)) if not user.events else user

    assert caller.update({user: answer for user in users}, LOAD) == dict.fromkeys(users, 1)
    assert caller.update({users[0]: answer}, LOAD) == {users[0]: 0}  # a duplicate
    ImpressionStream(settings, 1).append(["one", "two", "three"])
    with redis_cluster_client(settings, 5) as client:
        found = {}
        for stream in (REDIS_EVENT_LOG, REDIS_IMPRESSIONS):
            blocks = list(blocks_after(client, stream, START, 2))
            found[stream] = [entry.content for block in blocks for entry in block]
            assert added(client, stream) == len(found[stream]) and max(map(len, blocks)) == 2
            cut_off(client, stream, blocks[-1][-1].id)
            assert not client.xlen(stream)
    assert found[REDIS_IMPRESSIONS] == [b"one", b"two", b"three"]
    events = [LoggedEvent.model_validate_json(content) for content in found[REDIS_EVENT_LOG]]
    assert events == [LoggedEvent(userid=users[0], itemid="text", rating=4.5, ts=9, request_id="r")] * len(users)


def test_a_fault_of_one_user_changes_none(caller: RedisClusterCaller, settings: Settings) -> None:
    users = [next(new_users) for _ in range(4)]
    with redis_cluster_client(settings, 5) as client:
        client.set(REDIS_FILTER.format(users[3]), "no JSON")
    with pytest.raises(StoreFault):
        caller.update({user: rate(1) for user in users}, LOAD)
    assert caller.recent(users) == [()] * 4 and not set(users) & set(caller.events())


def test_loaded_users_replace_all_others_and_are_of_their_load(caller: RedisClusterCaller, settings: Settings) -> None:
    loaded = {user: UserRecall(("War",), (0.5,), (3,), (Impression(3, 4.0, 2),)) for user in range(1, 200)}
    recent = {user: recall.recent for user, recall in loaded.items()}
    former = next(new_users)
    caller.update({former: rate(1)}, LOAD)
    with redis_cluster_client(settings, 5) as client:
        client.set("others:{1}", "x")
        s1_user_to_redis.write(client, loaded, recent, "another")  # type: ignore[arg-type]
        s1_user_to_redis.remove_others(client, np.arange(1, 200))
        s1_user_to_redis.check(caller, loaded, recent)
        assert caller.events() == {} and caller.users([former]) == [None] and client.get("others:{1}") == b"x"
        with pytest.raises(StoreFault, match="it holds the load another"):
            caller.user(1, LOAD)
        with pytest.raises(StoreFault, match="it holds the load another"):
            caller.update({1: rate(9)}, LOAD)
        client.set(REDIS_RECENT.format(7), "[]")
        with pytest.raises(LoadError, match="user 7"):
            s1_user_to_redis.check(caller, loaded, recent)


def test_what_was_accepted_outlives_the_master(caller: RedisClusterCaller, settings: Settings) -> None:
    """Its replica answers at once and takes events a moment later; it comes back as the replica."""
    user = next(new_users)
    master, replica = nodes_of(settings, user)
    assert caller.update({user: rate(1)}, LOAD) == {user: 1}
    kill(settings, master)
    found = caller.user(user, LOAD)
    assert found is not None and found.seen == (1,), "the list is read from the replica"
    began = time.monotonic()
    assert caller.update({user: rate(2)}, LOAD) == {user: 1}
    assert time.monotonic() - began < EVENT_SECONDS
    start_missing(settings)
    assert nodes_of(settings, user) == (replica, master)
    assert [event.itemid for event in caller.events()[user]] == [1, 2]


def test_events_are_taken_while_a_replica_is_away(caller: RedisClusterCaller, settings: Settings) -> None:
    user = next(new_users)
    master, replica = nodes_of(settings, user)
    kill(settings, replica)
    assert caller.update({user: rate(1)}, LOAD) == {user: 1}
    start_missing(settings)
    kill(settings, master)
    assert caller.update({user: rate(2)}, LOAD) == {user: 1}
    assert [event.itemid for event in caller.events()[user]] == [1, 2], "the replica got what it had missed"
    start_missing(settings)


def test_more_events_than_threads_can_wait_are_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, asked = RedisClusterCaller(settings.model_copy(update={"web_threads": 1}), 1), []

    def away(key: str, operation: object) -> None:
        asked.append(key)
        raise NodeUnavailable("redis", redis.ConnectionError("refused"))

    monkeypatch.setattr(caller, "_at", away)
    assert caller._waiting.acquire(blocking=False)  # as an event that waits does
    with pytest.raises(NodeUnavailable):
        caller.update({1: rate(1)}, LOAD)
    assert len(asked) == 1, "it did not wait"
