"""Establishes that both overlays render, are valid, hold no password, and run what compose.yaml and settings say."""

import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from data_exchange_center.settings import Settings
from services.credentials import PASSWORDS
from tests.conftest import ROOT
from tests.services.overlays import CERTIFICATES, KUBERNETES, OVERLAYS, PROJECT, Rendered, render, variables_of

VERSIONS = (
    "1.30",
    kubernetes_validate.latest_version().removesuffix(".0"),
)  # the oldest whose pods can sleep before they stop
COMPOSE = yaml.safe_load((ROOT / "services/compose.yaml").read_text("utf-8"))["services"]
# Variables of the official images' containers that compose.yaml does not set.
OWN_VARIABLES = {
    "redis": {"REDISCLI_AUTH", "MAX_MEMORY", "CLUSTER_OPTIONS"},
    "members": {"REDISCLI_AUTH", "NODES"},
    "elasticsearch": {"readiness.port"},
    "feast": {"REDIS_PASSWORD", "HOME"},
}
TRANSPORT = "xpack.security.transport.ssl."
CLUSTER_VARIABLES = {"POD_NAME", "cluster.name", "node.name", "node.store.allow_mmap"} | {
    "discovery.seed_hosts",
    "cluster.initial_master_nodes",
    *(f"{TRANSPORT}{name}" for name in ("verification_mode", "certificate", "key", "certificate_authorities")),
}


@pytest.fixture(params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return render(request.param)


# --- valid, and without passwords ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_resource_is_valid(rendered: Rendered, version: str) -> None:
    for resource in rendered.resources:
        assert kubernetes_validate.validate(resource, version, strict=True) == version


def test_an_unknown_field_is_found(rendered: Rendered) -> None:
    service = {**rendered.named("Service", "web"), "spec": {"selectors": {}}}
    with pytest.raises(kubernetes_validate.ValidationError, match="selectors"):
        kubernetes_validate.validate(service, VERSIONS[-1], strict=True)


def test_no_password_is_in_git() -> None:
    for overlay in OVERLAYS:
        folder = KUBERNETES / "overlays" / overlay
        secret = [folder / "secrets.env", *(folder / "certificates" / name for name in CERTIFICATES)]
        ignored = subprocess.run(
            ["git", "check-ignore", *secret], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ignored.stdout.splitlines() == [str(file) for file in secret]
        names = dict(re.findall(r"^(\w+)=(.*)$", (folder / "secrets.env.example").read_text(), re.M))
        assert names == {name.upper(): "" for name in (*PASSWORDS, "events_token")}
    assert "kind: Secret" not in "".join(file.read_text() for file in KUBERNETES.rglob("*.yaml"))


# --- what compose.yaml and the settings say --------------------------------------------------------------------------


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_variable_is_a_setting_or_one_of_compose(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = render(name)
    known = {field.upper() for field in Settings.model_fields}
    for workload, container in overlay.containers:
        variables = variables_of(container, overlay)
        if container["image"].startswith(f"{PROJECT}:"):
            assert set(variables) <= known, container["name"]
            continue
        usual = COMPOSE.get(workload, {}).get("environment", {})
        allowed = {
            *usual,
            *OWN_VARIABLES.get(container["name"], ()),
            *(CLUSTER_VARIABLES if name == "production" else ()),
        }
        assert set(variables) <= allowed, container["name"]
        if name == "small":
            plain = {variable: value for variable, value in usual.items() if "$" not in value}
            assert plain.items() <= variables.items()
    for variable, value in overlay.settings.items():
        monkeypatch.setenv(variable, value)
    assert Settings(_env_file=None).artefacts == Path("/artefacts")  # and each value is one that its setting takes


def test_settings_name_services_and_ports_that_exist(rendered: Rendered) -> None:
    settings = rendered.settings
    defaults = {name.upper(): str(field.default) for name, field in Settings.model_fields.items()}
    ports = {name: value for name, value in settings.items() if name.endswith("_PORT")}
    assert ports == {name: defaults[name] for name in ports} and len(ports) == 7
    for name, port in ports.items():
        host = settings.get(f"{name.split('_')[0]}_HOST")
        service = "web" if host == "0.0.0.0" else host
        offered = {p["port"] for p in rendered.named("Service", str(service))["spec"]["ports"]}
        assert int(port) in offered, name


def test_lists_of_nodes_name_every_pod() -> None:
    rendered = render("production")
    feast = rendered.container("feast")
    lists = {name: value.split(",") for name, value in rendered.settings.items() if name.endswith("_NODES")}
    lists["FEAST_REDIS"] = str(variables_of(feast, rendered)["FEAST_REDIS"]).split(",")[:-1]
    for name, workload, port in (
        ("REDIS_NODES", "redis", 6379),
        ("FEAST_REDIS", "redis", 6379),
        ("ES_NODES", "elasticsearch", 9200),
        ("TRITON_NODES", "triton", 8001),
    ):
        assert lists[name] == [f"{workload}-{n}.{workload}:{port}" for n in range(rendered.replicas(workload))]
    assert variables_of(rendered.container("members"), rendered)["NODES"] == str(rendered.replicas("redis"))
    masters = str(variables_of(rendered.container("elasticsearch"), rendered)["cluster.initial_master_nodes"]).split(
        ","
    )
    assert masters == [f"elasticsearch-{n}" for n in range(rendered.replicas("elasticsearch"))]


def test_images_and_commands_are_those_of_compose(rendered: Rendered) -> None:
    files = [yaml.safe_load(file.read_text("utf-8")) for file in (ROOT / "services").glob("compose*.yaml")]
    pinned = dict(s["image"].split(":") for file in files for s in file["services"].values() if "image" in s)
    used = {container["image"] for _, container in rendered.containers}
    assert {f"{name}:{tag}" for name, tag in pinned.items()} <= used
    assert {image.split(":")[0] for image in used} == {*pinned, "nginx", PROJECT} and len(used) == 6
    for service in ("feast", "triton"):
        container = rendered.container(service)
        words = iter(container["args"])
        assert all(word in words for word in COMPOSE[service]["command"]), service  # in this order
    assert "--save '' --appendonly yes" in rendered.container("redis")["args"][0]


def test_the_daily_run_is_what_make_does(rendered: Rendered) -> None:
    cron_job = rendered.named("CronJob", "daily-run")
    assert cron_job["spec"]["concurrencyPolicy"] == "Forbid"
    modules = [container["command"][2] for name, container in rendered.containers if name == "daily-run"]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    verbs = dict(re.findall(r"^([a-z]+):.*\n\t\$\(PY\) -m ([\w.]+)$", makefile, re.M))
    assert modules == [verbs[verb] for verb in ("data", "offline", "load", "check")]


@pytest.mark.parametrize("page", ["docs/kubernetes.md", "docs/zh/kubernetes.md"])
def test_the_page_names_what_exists(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for path in re.findall(r"services/kubernetes/[\w./-]*\w", text):
        assert (ROOT / path).exists() or path.endswith(("/secrets.env", "/certificates")), path
    images = {container["image"] for _, container in render("small").containers}
    assert {f"{PROJECT}:{tag}" for tag in re.findall(rf"{PROJECT}:([\d.]+)", text)} == {
        image for image in images if image.startswith(PROJECT)
    }
    for kind, name in re.findall(r"\b(cronjob|service)/([\w-]+)", text):
        assert render("small").named({"cronjob": "CronJob", "service": "Service"}[kind], name)
