"""The manifests as `kubectl kustomize` renders them, and how to look things up in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
#: Its kustomize is the first with components.
LEAST_MINOR = 21
#: What kubectl runs with. It is a short process beside many: with several threads, those that wait for each other spin,
#: which takes cores from the others, and for ever where a machine's kernel does not take turns between them.
ENVIRON = {"GOMAXPROCS": "1", "KUBECONFIG": str(Path(__file__).with_name("no-cluster.yaml"))}

Object = dict[str, Any]


@cache
def kubectl() -> str:
    """A kubectl that is new enough; without one, the test is skipped and says what to do."""
    for candidate in (str(ROOT / "build" / "kubectl"), shutil.which("kubectl")):
        if candidate and Path(candidate).exists():
            said = subprocess.run(
                [candidate, "version", "--client", "-o", "json"],
                env={**os.environ, **ENVIRON},
                capture_output=True,
                text=True,
                timeout=60,
            )
            if said.returncode == 0:
                version = json.loads(said.stdout)["clientVersion"]
                if int(version["minor"].rstrip("+")) >= LEAST_MINOR:
                    return candidate
    pytest.skip(f"no kubectl of version 1.{LEAST_MINOR} or newer: run checks/kubectl, which brings one")


@dataclass(frozen=True)
class Pod:
    """The pods that one object makes."""

    kind: str
    name: str
    owner: Object
    labels: dict[str, str]
    spec: Object

    @property
    def containers(self) -> list[Object]:
        """Those that stay, the main one first."""
        return self.spec["containers"]

    @property
    def all_containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


@dataclass(frozen=True)
class Manifests:
    """What one kustomization renders."""

    name: str
    objects: list[Object]

    def of(self, kind: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        """The object of that kind and name; the hash behind a ConfigMap's name does not count."""
        [one] = [each for each in self.of(kind) if _without_hash(each) == name]
        return one

    @property
    def pods(self) -> Iterator[Pod]:
        for each in self.objects:
            if each["kind"] in ("Deployment", "StatefulSet", "Job", "DaemonSet"):
                template = each["spec"]["template"]
                labels = template["metadata"]["labels"]
                yield Pod(each["kind"], each["metadata"]["name"], each, labels, template["spec"])

    def pod(self, name: str) -> Pod:
        [pod] = [pod for pod in self.pods if pod.name == name]
        return pod

    @cached_property
    def scaled(self) -> set[str]:
        """Names of the Deployments whose replicas KEDA decides."""
        return {each["spec"]["scaleTargetRef"]["name"] for each in self.of("ScaledObject")}


def _without_hash(each: Object) -> str:
    name = each["metadata"]["name"]
    return name.rpartition("-")[0] if each["kind"] == "ConfigMap" and name != "reelmap-scaler" else name


def render(folder: Path) -> Manifests:
    """The objects of a kustomization. Fails with what kubectl says."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)],
        env={**os.environ, **ENVIRON},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"kubectl warns: {done.stderr}"
    return Manifests(folder.name, list(yaml.safe_load_all(done.stdout)))


@cache
def _rendered(overlay: str) -> str:
    return json.dumps(render(K8S / "overlays" / overlay).objects)


def overlay(name: str) -> Manifests:
    """An overlay's objects, to be changed as one likes."""
    return Manifests(name, json.loads(_rendered(name)))


def combination(components: Sequence[str], folder: Path) -> Manifests:
    """The base with these components; `folder` is where its kustomization is written."""
    folder.mkdir()
    where = os.path.relpath(K8S, folder)
    kustomization = {
        "resources": [f"{where}/base"],
        "components": [f"{where}/components/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return Manifests("+".join(components) or "base", render(folder).objects)


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number: of bytes or of cores."""
    for suffix, factor in {
        "Ki": 2**10,
        "Mi": 2**20,
        "Gi": 2**30,
        "Ti": 2**40,
        "m": 1e-3,
        "k": 1e3,
        "M": 1e6,
        "G": 1e9,
    }.items():
        if str(text).endswith(suffix):
            return float(str(text).removesuffix(suffix)) * factor
    return float(text)


def environ_of(manifests: Manifests, pod: Pod, container: Object) -> dict[str, str]:
    """The environment of a container, as the kubelet makes it."""
    environ: dict[str, str] = {}
    for source in container.get("envFrom", []):
        environ |= config_map(manifests, source["configMapRef"]["name"])
    for variable in container.get("env", []):
        if "value" in variable:
            environ[variable["name"]] = variable["value"]
        else:
            reference = variable["valueFrom"]["resourceFieldRef"]
            [named] = [each for each in pod.containers if each["name"] == reference["containerName"]]
            kind, _, resource = reference["resource"].partition(".")
            environ[variable["name"]] = str(-int(-quantity(named["resources"][kind][resource]) // 1))
    return environ


def config_map(manifests: Manifests, name: str) -> dict[str, str]:
    [config] = [each for each in manifests.of("ConfigMap") if each["metadata"]["name"] == name]
    return config["data"]
