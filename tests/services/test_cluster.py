"""Establishes that the cluster's settings, configurations and containers say the same, and what is refused."""

import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_exchange_center.addresses import Address, addresses
from data_exchange_center.settings import Settings
from services import cluster, elasticsearch_server, nginx_server, redis_cluster, stack
from services.processes import Recorder, ServiceError
from tests.conftest import ROOT, run_module

SETTINGS = Settings(_env_file=None, topology="cluster")  # type: ignore[call-arg]
COMPOSE = yaml.safe_load((ROOT / "services/compose.cluster.yaml").read_text("utf-8"))["services"]
SINGLE = yaml.safe_load((ROOT / "services/compose.yaml").read_text("utf-8"))["services"]
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")


def with_defaults(value: Any) -> str:
    """The text of a container's entry, each variable as its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


@pytest.mark.parametrize("nodes", ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:7001,,", "a b:7001", "127.0.0.1:70000"])
def test_nodes_are_hosts_with_ports(nodes: str) -> None:
    done = run_module("services", "status", REDIS_NODES=nodes)
    assert done.returncode == 1 and done.stderr.startswith("error: setting REDIS_NODES: ")
    assert "Traceback" not in done.stderr and "`host:port`" in done.stderr


def test_each_client_is_told_of_all_nodes() -> None:
    settings = SETTINGS.model_copy(update={"es_nodes": "a:1,b:2", "triton_nodes": "c:3, d:4", "redis_nodes": "e:5,f:6"})
    assert settings.es_urls == ["http://a:1", "http://b:2"] and settings.index_replicas == 1
    assert settings.triton_addresses == (Address("c", 3), Address("d", 4))
    assert settings.feast_environment()["FEAST_REDIS"] == "e:5,f:6"
    one = settings.model_copy(update={"topology": "single"})
    assert one.es_urls == ["http://127.0.0.1:9200"] and one.index_replicas == 0
    assert one.triton_addresses == (Address("127.0.0.1", 8001),)
    assert one.feast_environment()["FEAST_REDIS"] == "127.0.0.1:6379,db=1"


def test_no_two_nodes_have_a_port_in_common_and_each_is_stopped() -> None:
    nodes = (*cluster.servers(SETTINGS), *cluster.web_servers(SETTINGS))
    ports = [port.port for node in nodes for port in node.ports(SETTINGS)]
    others = [node.port + 10_000 for node in addresses(SETTINGS.redis_nodes)]
    others += [node.port + elasticsearch_server.TRANSPORT for node in addresses(SETTINGS.es_nodes)]
    single = [port.port for server in stack.SERVERS for port in server.ports(SETTINGS) if server.name != "feast"]
    assert len({*ports, *others, *single}) == len([*ports, *others, *single])
    assert {cluster.of_service(node.name) for node in nodes} == set(chain(*stack.STOP_ORDER)) - {"spark"}


def test_the_nodes_of_elasticsearch_know_each_other(tmp_path: Path) -> None:
    names = elasticsearch_server.node_names(SETTINGS)
    settings = SETTINGS.model_copy(update={"es_port": 9202})
    values = yaml.safe_load(elasticsearch_server.configuration(settings, tmp_path, names[1]))
    assert values["node.name"] == "elasticsearch-2" and values["cluster.initial_master_nodes"] == names
    assert values["discovery.seed_hosts"] == ["127.0.0.1:9301", "127.0.0.1:9302", "127.0.0.1:9303"]
    assert (values["http.port"], values["transport.port"]) == (9202, 9302) and "discovery.type" not in values


@pytest.mark.skipif(not NGINX, reason="nginx is not installed (Debian: apt install nginx-light)")
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "nginx.conf"
    file.write_text(nginx_server.configuration(SETTINGS, tmp_path))
    command = [str(NGINX), "-t", "-c", str(file), "-p", str(tmp_path), "-e", str(tmp_path / "error.log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    for node in addresses(f"{SETTINGS.web_nodes},{SETTINGS.feast_nodes}"):
        assert f"server {node} " in file.read_text()


def test_missing_nginx_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nginx_server, "ROOTS_FOLDERS", ())
    with pytest.raises(ServiceError, match="apt install nginx-light"):
        nginx_server.start(SETTINGS, Recorder(tmp_path))
    with pytest.raises(ServiceError, match="set RUN_DIR to a folder with a plain name"):
        nginx_server.configuration(SETTINGS, tmp_path / "a b")


def test_the_containers_are_those_nodes() -> None:
    """Same names, ports, images and options; the web servers run beside them."""
    servers = cluster.servers(SETTINGS)
    assert list(COMPOSE) == [server.name for server in servers]
    for server in servers[:-1]:
        container = COMPOSE[server.name]
        assert container["image"] == SINGLE[cluster.of_service(server.name)]["image"]
        assert container["network_mode"] == "host"
        for port in server.ports(SETTINGS):
            assert str(port.port) in with_defaults(container), port
        assert "0.0.0.0" not in str(container)
    for name in ("redis-1", "redis-6"):
        command = COMPOSE[name]["command"][-1]
        own = redis_cluster.OPTIONS[:-2]  # the last is about the time that a resynchronisation waits for others
        assert all(f"{flag} {value}" in command for flag, value in zip(own[::2], own[1::2], strict=True))
    for number in (1, 2, 3):
        environment = COMPOSE[f"elasticsearch-{number}"]["environment"]
        values = yaml.safe_load(elasticsearch_server.configuration(SETTINGS, Path("/"), f"elasticsearch-{number}"))
        assert environment["cluster.initial_master_nodes"].split(",") == values["cluster.initial_master_nodes"]
        assert with_defaults(environment["discovery.seed_hosts"]).split(",") == values["discovery.seed_hosts"]
