"""Establishes that a node of each service may die at once under load: no error, nothing lost, and the verb cures it."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from benchmarks.speed import promotions
from benchmarks.speed.cluster_outages import kill, lost, memory_mib
from benchmarks.speed.lists_and_events import ListsAndEvents
from benchmarks.userids import served_userids
from data_exchange_center import catalogue
from data_exchange_center.addresses import addresses
from data_exchange_center.settings import Settings
from data_exchange_center.triton_models import RANKER
from online.callers.triton_caller import TritonCaller
from services.nginx_server import ROOTS_FOLDERS
from services.stack import recorder_of
from testkit.stack import cluster_nodes, in_force, settings_of_its_own
from tests.conftest import Offline, succeed

NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], *ROOTS_FOLDERS]))
KILLED = ("redis-1", "elasticsearch-1", "feast-1", "triton-1", "web-1")
MOST_MIB = 5 * 1024


@dataclass(frozen=True)
class Cluster:
    """All nodes, loaded and served."""

    env: dict[str, str]
    settings: Settings


@pytest.fixture(scope="module")
def small_cluster(offline: Offline) -> Iterator[Cluster]:
    if not NGINX:
        reason = "the cluster needs nginx (Debian: apt install nginx-light)"
        pytest.fail(reason) if os.environ.get("REQUIRE_NGINX") else pytest.skip(reason)
    with settings_of_its_own() as own:
        env = {**own, **offline.env, "ARTEFACTS_DIR": own["ARTEFACTS_DIR"], **cluster_nodes(), "WEB_WORKERS": "2"}
        shutil.copytree(offline.artefacts / "offline", Path(own["ARTEFACTS_DIR"]) / "offline")
        succeed("services", "start", **env)
        assert "users in Redis" in succeed("offline_to_online", "--unless-loaded", **env)
        succeed("services", "serve", **env)
        with in_force(env) as settings:
            yield Cluster(env, settings)


def test_a_node_of_each_service_dies_at_once_under_load(small_cluster: Cluster) -> None:
    settings, env = small_cluster.settings, small_cluster.env
    items = catalogue.ITEMS.load(["itemid"])["itemid"].to_pylist()
    load = ListsAndEvents(settings, served_userids(), items)
    time.sleep(2)
    for name in KILLED:
        kill(settings, name)
    time.sleep(5)  # a replica becomes master
    for verb in ("start", "serve"):
        succeed("services", verb, **env)
    assert all(recorder_of(settings).running(name) for name in KILLED)
    load.end()
    seen = load.next_seen()
    assert seen.errors == [] and set(seen.statuses) == {200}
    assert seen.lists > 100 and seen.accepted == len(load.accepted) > 20
    assert lost(settings, load.accepted) == []
    assert succeed("offline_to_online", "--unless-loaded", **env) == "all stores hold the load\n"
    assert sum(memory_mib(settings).values()) < MOST_MIB


def test_both_tritons_hold_the_versions_that_are_promoted(small_cluster: Cluster) -> None:
    settings = small_cluster.settings
    with promotions.another_version(settings) as pair:
        for node in TritonCaller(settings, 5).each:
            assert all(node.is_ready(RANKER, str(version)) for version in pair)
        # Fifteen nodes share two cores: more clients would find out how slow that is.
        report = promotions.measure(settings, served_userids()[:20], pair, switches=2, clients=2)
        assert promotions.is_good(report), report


def test_slow_requests_end_at_nginx(small_cluster: Cluster) -> None:
    """What has not come whole reaches no web server, not even as a connection."""
    settings = small_cluster.settings
    ports = {node.port for node in addresses(settings.web_nodes)}

    def connections() -> int:
        open_ones = [each for each in psutil.net_connections("tcp") if each.status == "ESTABLISHED" and each.laddr]
        return sum(each.laddr.port in ports for each in open_ones)

    before = connections()
    slow = [socket.create_connection((settings.web_host, settings.web_port)) for _ in range(50)]
    for client in slow:
        client.sendall(b"POST /events HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n[")
    time.sleep(0.5)
    assert connections() <= before
    for client in slow:
        client.close()


def test_large_requests_get_a_sentence(small_cluster: Cluster) -> None:
    address = f"http://{small_cluster.settings.web_host}:{small_cluster.settings.web_port}"
    headers = {"Content-Type": "application/json"}
    for size in (20_000, 2_000_000):  # the server's own limit, and nginx's
        response = requests.post(f"{address}/events", b"[" + b" " * size, headers=headers, timeout=10)
        assert response.status_code == 413 and response.json()["error"]["field"] == "body"
    assert requests.get(f"{address}/ready", timeout=10).json()["ready"] is True
