"""Every overlay and every combination of components builds, and is what three Kubernetes and KEDA take."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.k8s.rendering import COMPONENTS, K8S, OVERLAYS, Manifests, combination, overlay, render

#: Those that are maintained: the newest and the two before it.
MINORS = ("1.35", "1.36", "1.37")
#: Of KEDA's resources, the fields that we use, from its reference and with its types and bounds; no other field passes.
KEDA = json.loads((Path(__file__).parent / "keda.json").read_text())


def test_the_minors_are_the_newest_that_the_schemas_know():
    newest = int(kubernetes_validate.latest_version().split(".")[1])
    assert tuple(f"1.{minor}" for minor in range(newest - 2, newest + 1)) == MINORS


def problems(manifests: Manifests, minor: str) -> list[str]:
    found = []
    for each in manifests.objects:
        try:
            if each["apiVersion"].startswith("keda.sh/"):
                jsonschema.validate(each, KEDA[each["kind"]])
            else:
                kubernetes_validate.validate(each, minor, strict=True)
        except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as error:
            found.append(f"{each['kind']} {each['metadata']['name']}: {error.message}")
    return found


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_the_overlays_are_what_kubernetes_takes(name, minor):
    assert problems(overlay(name), minor) == []


def test_every_combination_of_components_builds_and_is_what_kubernetes_takes(tmp_path):
    single_and_pairs = [*itertools.combinations(COMPONENTS, 1), *itertools.combinations(COMPONENTS, 2)]
    choices = [(), *single_and_pairs, tuple(COMPONENTS), tuple(reversed(COMPONENTS))]
    wholes = {chosen: combination(chosen, tmp_path / ("-".join(chosen) or "none")) for chosen in choices}
    for chosen, manifests in wholes.items():
        names = [(each["kind"], each["metadata"]["name"]) for each in manifests.objects]
        assert len(names) == len(set(names)), chosen
    for chosen in ((), tuple(COMPONENTS), tuple(reversed(COMPONENTS))):
        assert problems(wholes[chosen], MINORS[-1]) == []


@pytest.mark.parametrize(
    "kind, name, path, value",
    [
        ("Deployment", "api", ["spec", "template", "spec", "containers", 0, "imagePullPolcy"], "Always"),
        ("Deployment", "api", ["spec", "replicas"], "two"),
        ("NetworkPolicy", "deny-all", ["spec", "policyType"], ["Ingress"]),
        ("ScaledObject", "embedding", ["spec", "minReplicas"], 0),
        ("ScaledObject", "embedding", ["spec", "pollingInterval"], "15"),
        ("ScaledObject", "embedding", ["spec", "fallback", "behavior"], "higher"),
        ("ScaledObject", "embedding", ["spec", "triggers", 0, "metadata", "targetQueryValue"], 4),
        ("ScaledObject", "embedding", ["spec", "triggers", 0, "metadata", "targetValue"], "4"),
        ("TriggerAuthentication", "postgres", ["spec", "secretTargetRef", 0, "secret"], "reelmap"),
    ],
)
def test_a_field_that_is_none_is_caught(kind, name, path, value):
    manifests = overlay("gpu")
    where: Any = manifests.one(kind, name)
    for step in path[:-1]:
        where = where[step]
    where[path[-1]] = value
    assert len(problems(manifests, MINORS[0])) == 1


def test_an_image_is_pinned_by_the_line_that_the_documentation_shows(tmp_path):
    text = (K8S.parent / "docs" / "kubernetes.md").read_text()
    digest = "sha256:" + 64 * "0"
    pin = yaml.safe_load(re.search(r"`- (\{name: reelmap-api, .*?\})`", text)[1].replace("sha256:…", digest))
    combination([], tmp_path / "pinned")
    file = tmp_path / "pinned" / "kustomization.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"images": [pin]}))
    pinned = render(file.parent).pod("api").containers[0]["image"]
    assert pinned == f"registry.example.com/reelmap-api@{digest}"


def test_a_slice_of_a_gpu_is_taken_by_the_patch_that_the_component_shows(tmp_path):
    lines = (K8S / "components" / "gpu" / "kustomization.yaml").read_text().splitlines()
    patch = "\n".join(line.removeprefix("# ")[2:] for line in lines[lines.index("#   patches:") :])
    folder = tmp_path / "mig"
    combination(["gpu"], folder)
    with (folder / "kustomization.yaml").open("a") as file:
        file.write(patch + "\n")
    limits = render(folder).pod("embedding").containers[0]["resources"]["limits"]
    assert {name: text for name, text in limits.items() if "/" in name} == {"nvidia.com/mig-1g.10gb": "1"}
