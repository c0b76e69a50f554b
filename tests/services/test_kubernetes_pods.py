"""Establishes that the parts of each overlay fit together: selectors, ports, policies, probes and what pods may do."""

import inspect
import re
from itertools import product

import flask
import pytest

from online.main.operations import blueprint
from online.main.s1_server import GRACEFUL_SECONDS
from services import feast_server, triton_server
from tests.services.overlays import KUBERNETES, OVERLAYS, Rendered, Resource, ports_of, render

STORES = {("redis", 6379), ("elasticsearch", 9200), ("feast", 6566), ("triton", 8001)}
CONNECTIONS = {
    ("nginx", "web", 5000),
    ("feast", "redis", 6379),
    *((client, *store) for client, store in product(("web", "daily-run"), STORES)),
}
AMONG_NODES = {("redis", "redis", 6379), ("redis", "redis", 16379), ("elasticsearch", "elasticsearch", 9300)}
HELPERS = {"members"}  # beside a server in its pod: not what a pod is ready by


@pytest.fixture(params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return render(request.param)


def test_a_variable_that_is_put_into_another_stands_before_it(rendered: Rendered) -> None:
    for _, container in rendered.containers:
        names: set[str] = set()
        for variable in container.get("env", ()):
            assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= names, variable["name"]
            names.add(variable["name"])


def selected(rendered: Rendered, selector: Resource) -> set[str]:
    """The workloads whose pods a selector selects."""

    def matches(labels: dict[str, str]) -> bool:
        rules = selector.get("matchExpressions", ())
        assert all(rule["operator"] == "In" for rule in rules)
        return selector.get("matchLabels", {}).items() <= labels.items() and all(
            labels.get(rule["key"]) in rule["values"] for rule in rules
        )

    return {name for name, pod in rendered.pods.items() if matches(pod["metadata"]["labels"])}


def test_services_budgets_and_autoscalers_have_their_pods(rendered: Rendered) -> None:
    for service in rendered.of("Service"):
        (workload,) = selected(rendered, {"matchLabels": service["spec"]["selector"]})
        ports = ports_of(rendered.pods[workload])
        for port in service["spec"]["ports"]:
            target = ports[port["targetPort"]]
            assert service["spec"].get("clusterIP") != "None" or port["port"] == target  # headless: no port is mapped
    for workload in rendered.of("Deployment", "StatefulSet"):
        spec, name = workload["spec"], workload["metadata"]["name"]
        assert selected(rendered, spec["selector"]) == {name}
        (budget,) = (
            b for b in rendered.of("PodDisruptionBudget") if selected(rendered, b["spec"]["selector"]) == {name}
        )
        assert budget["spec"]["maxUnavailable"] == 1
        if workload["kind"] == "StatefulSet":
            assert rendered.named("Service", spec["serviceName"])["spec"]["clusterIP"] == "None"
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert (
            "replicas" not in rendered.named(target["kind"], target["name"])["spec"]
        )  # or each apply would scale back
        assert "cpu" in rendered.container(target["name"])["resources"]["requests"]
    for ingress in rendered.of("Ingress"):
        backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        ports = rendered.named("Service", backend["name"])["spec"]["ports"]
        assert backend["port"]["name"] in {port["name"] for port in ports}


def allowed(rendered: Rendered, direction: str, peers: str) -> set[tuple[str, str, int]]:
    """The connections between workloads that the policies of one direction allow: client, server, port."""
    found = set()
    for policy in rendered.of("NetworkPolicy"):
        own = selected(rendered, policy["spec"]["podSelector"])
        for rule in policy["spec"].get(direction, ()):
            pods = [p["podSelector"] for p in rule.get(peers, ()) if set(p) == {"podSelector"}]
            others = set().union(*(selected(rendered, selector) for selector in pods))
            for one, other, port in product(own, others, rule["ports"]):
                found.add((one, other, port["port"]) if direction == "egress" else (other, one, port["port"]))
            servers = own if direction == "ingress" else others
            for server in servers:
                assert {port["port"] for port in rule["ports"]} <= {*ports_of(rendered.pods[server]).values()}, server
    return found


def test_the_data_flow_is_allowed_on_both_ends_and_nothing_else(rendered: Rendered) -> None:
    expected = CONNECTIONS | (AMONG_NODES if rendered.overlay == "production" else set())
    assert allowed(rendered, "egress", "to") == expected
    assert allowed(rendered, "ingress", "from") == expected
    deny = rendered.named("NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_every_probe_asks_for_what_is_there(rendered: Rendered) -> None:
    app = flask.Flask("routes")
    app.register_blueprint(blueprint)
    paths = {
        "web": {rule.rule for rule in app.url_map.iter_rules()},
        "nginx": set(re.findall(r"location = (/[\w-]+)", (KUBERNETES / "base/nginx.conf").read_text())),
        "feast": set(re.findall(r'feast_url \+ "(/\w+)"', inspect.getsource(feast_server))),
        "triton": {"/v2/health/live", *re.findall(r"triton_http_port\}(/[\w/]+)", inspect.getsource(triton_server))},
    }
    for workload in rendered.of("Deployment", "StatefulSet"):
        name = workload["metadata"]["name"]
        for container in workload["spec"]["template"]["spec"]["containers"]:
            if container["name"] in HELPERS:
                continue
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container[kind].get("httpGet") or container[kind].get("tcpSocket")
                assert not asked or asked["port"] in ports_of(workload["spec"]["template"])
                assert "httpGet" not in container[kind] or asked["path"] in paths[name]
    web = rendered.container("web")
    assert [web[kind]["httpGet"]["path"] for kind in ("livenessProbe", "readinessProbe")] == ["/health", "/ready"]


def test_no_pod_may_do_more_than_it_needs(rendered: Rendered) -> None:
    for name, pod in rendered.pods.items():
        spec = pod["spec"]
        assert spec["serviceAccountName"] == name and spec["automountServiceAccountToken"] is False
        assert rendered.named("ServiceAccount", name)["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False  # else REDIS_PORT is set to an address, by the Service's name
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for _, container in rendered.containers:
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]} and context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is (container["name"] != "elasticsearch")


def test_resources_are_stated_and_servers_have_no_limit_on_the_cpu(rendered: Rendered) -> None:
    for workload, container in rendered.containers:
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]) and "memory" in resources["limits"]
        assert ("cpu" in resources["limits"]) is (workload == "daily-run" or container["name"] in HELPERS)


def test_servers_end_within_their_time(rendered: Rendered) -> None:
    for workload in rendered.of("Deployment", "StatefulSet"):
        spec = workload["spec"]["template"]["spec"]
        server = next(container for container in spec["containers"] if container["name"] not in HELPERS)
        pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pause + (GRACEFUL_SECONDS if server["name"] == "web" else 0) < spec["terminationGracePeriodSeconds"]


def test_every_mount_has_its_volume(rendered: Rendered) -> None:
    for name, pod in rendered.pods.items():
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", ())}
        if stateful := [r for r in rendered.of("StatefulSet") if r["metadata"]["name"] == name]:
            volumes |= {claim["metadata"]["name"] for claim in stateful[0]["spec"].get("volumeClaimTemplates", ())}
        for workload, container in rendered.containers:
            assert workload != name or {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
