"""Every overlay holds to every policy, and every policy notices when it is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.k8s.policies import POLICIES
from tests.k8s.rendering import COMPONENTS, OVERLAYS, Manifests, combination, overlay


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", OVERLAYS)
def test_the_overlays_hold_to_it(name, policy):
    assert list(POLICIES[policy](overlay(name))) == []


def test_the_base_alone_and_all_components_together_hold_to_all(tmp_path):
    for name, components in (("none", []), ("all", COMPONENTS)):
        manifests = combination(components, tmp_path / name)
        assert [said for policy in POLICIES.values() for said in policy(manifests)] == []


Break = Callable[[Manifests], Any]


def spec(manifests: Manifests, name: str) -> dict[str, Any]:
    return manifests.pod(name).spec


def main(manifests: Manifests, name: str) -> dict[str, Any]:
    return manifests.pod(name).containers[0]


def deployment(manifests: Manifests, name: str) -> dict[str, Any]:
    return manifests.one("Deployment", name)["spec"]


def volume(manifests: Manifests, pod: str, name: str) -> dict[str, Any]:
    return next(each for each in spec(manifests, pod)["volumes"] if each["name"] == name)


def without(where: dict[str, Any], *keys: str) -> None:
    for key in keys:
        del where[key]


def unset(container: dict[str, Any], variable: str) -> None:
    container["env"] = [each for each in container["env"] if each["name"] != variable]


#: Policy -> (what is broken, words of what it says).
BREAKS: list[tuple[str, Break, str]] = [
    # Pod Security, in a container, an init container and a pod
    ("pod_security", lambda m: without(main(m, "api"), "securityContext"), "capabilities are not all dropped"),
    ("pod_security", lambda m: without(spec(m, "api")["initContainers"][0], "securityContext"), "wait-for-schema"),
    ("pod_security", lambda m: without(spec(m, "query"), "securityContext"), "no seccompProfile"),
    ("pod_security", lambda m: spec(m, "query")["securityContext"].update(runAsNonRoot=False), "runAsNonRoot"),
    ("pod_security", lambda m: spec(m, "query")["securityContext"].update(runAsUser=0), "runs as root"),
    (
        "pod_security",
        lambda m: spec(m, "query")["securityContext"].update(sysctls=[{"name": "kernel.msgmax"}]),
        "sysctl",
    ),
    (
        "pod_security",
        lambda m: spec(m, "query")["securityContext"]["seccompProfile"].update(type="Unconfined"),
        "seccomp",
    ),
    ("pod_security", lambda m: spec(m, "query").update(hostNetwork=True), "hostNetwork"),
    (
        "pod_security",
        lambda m: spec(m, "query")["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
        "hostPath",
    ),
    ("pod_security", lambda m: main(m, "api")["securityContext"].update(privileged=True), "privileged"),
    ("pod_security", lambda m: main(m, "api")["securityContext"].update(allowPrivilegeEscalation=True), "Escalation"),
    (
        "pod_security",
        lambda m: main(m, "api")["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
        "SYS_ADMIN",
    ),
    ("pod_security", lambda m: main(m, "api")["securityContext"].update(procMount="Unmasked"), "procMount"),
    ("pod_security", lambda m: main(m, "api")["securityContext"].update(seLinuxOptions={"user": "x"}), "seLinux"),
    (
        "pod_security",
        lambda m: main(m, "api")["securityContext"].update(appArmorProfile={"type": "Unconfined"}),
        "AppArmor",
    ),
    ("pod_security", lambda m: main(m, "api")["ports"][0].update(hostPort=8000), "hostPort"),
    (
        "pod_security",
        lambda m: main(m, "api")["livenessProbe"]["tcpSocket"].update(host="169.254.169.254"),
        "names a host",
    ),
    # Our own
    (
        "rights",
        lambda m: main(m, "clustering")["securityContext"].update(readOnlyRootFilesystem=False),
        "write to its root",
    ),
    ("rights", lambda m: spec(m, "clustering").update(automountServiceAccountToken=True), "gets a token"),
    ("rights", lambda m: spec(m, "clustering").update(serviceAccountName="default"), "no account of its own"),
    ("rights", lambda m: without(spec(m, "api"), "enableServiceLinks"), "variables of Services"),
    ("rights", lambda m: spec(m, "api")["securityContext"].update(runAsUser=1000), "does not run as 10001"),
    (
        "resources",
        lambda m: without(main(m, "query")["resources"]["limits"], "memory"),
        "no request or no limit of memory",
    ),
    ("resources", lambda m: main(m, "query")["resources"]["requests"].update(cpu="9"), "more cpu than its limit"),
    (
        "resources",
        lambda m: main(m, "embedding")["resources"]["limits"].update({"nvidia.com/gpu": "0.5"}),
        "whole number",
    ),
    (
        "images",
        lambda m: main(m, "query").update(image="registry.example.com:5000/reelmap-embedding"),
        "names no version",
    ),
    ("images", lambda m: main(m, "query").update(image="reelmap-embedding:latest"), "names no version"),
    ("images", lambda m: main(m, "api").update(image="reelmap-api:0.0.9"), "is not of version"),
    ("images", lambda m: main(m, "query").update(image="reelmap-embedding:0.1.0-cuda"), "belong together"),
    ("probes", lambda m: without(main(m, "keyframes"), "startupProbe"), "no startupProbe"),
    ("probes", lambda m: main(m, "api")["startupProbe"]["httpGet"].update(path="/readyz"), "because Postgres is away"),
    ("probes", lambda m: main(m, "api")["livenessProbe"].update(httpGet={"path": "/livez"}), "slow uploads hold"),
    ("probes", lambda m: without(main(m, "api")["livenessProbe"], "timeoutSeconds"), "less than 3 s"),
    ("replicas", lambda m: deployment(m, "embedding").update(replicas=2), "which KEDA decides"),
    ("disruptions", lambda m: m.objects.remove(m.one("PodDisruptionBudget", "query")), "0 PodDisruptionBudgets"),
    ("disruptions", lambda m: m.one("PodDisruptionBudget", "query")["spec"].update(maxUnavailable=0), "wait for ever"),
    (
        "disruptions",
        lambda m: (
            m.one("PodDisruptionBudget", "query")["spec"].pop("maxUnavailable"),
            m.one("PodDisruptionBudget", "query")["spec"].update(minAvailable=1),
        ),
        "wait for ever with 1 pods",
    ),
    ("grace", lambda m: without(spec(m, "embedding"), "terminationGracePeriodSeconds"), "needs 65"),
    ("grace", lambda m: unset(main(m, "clustering"), "REELMAP_STOP_GRACE_S"), "has 600 s and by its settings uses 15"),
    ("grace", lambda m: spec(m, "clustering").update(terminationGracePeriodSeconds=580), "needs 585"),
    ("grace", lambda m: without(main(m, "api"), "lifecycle"), "proxies still send"),
    ("grace", lambda m: spec(m, "api").update(terminationGracePeriodSeconds=35), "killed after 35 s"),
    ("rollouts", lambda m: without(deployment(m, "api"), "strategy"), "away during an update"),
    ("rollouts", lambda m: without(deployment(m, "embedding"), "strategy"), "takes room for one more"),
    ("volumes", lambda m: without(volume(m, "keyframes", "work")["emptyDir"], "sizeLimit"), "fill the node's disk"),
    (
        "volumes",
        lambda m: volume(m, "keyframes", "work")["emptyDir"].update(sizeLimit="4Gi"),
        "the code may write 8.0 GiB",
    ),
    ("volumes", lambda m: volume(m, "api", "work")["emptyDir"].update(sizeLimit="2Gi"), "the code may write 32.0 GiB"),
    ("volumes", lambda m: main(m, "api")["volumeMounts"].pop(), "and mounts"),
    (
        "volumes",
        lambda m: main(m, "api")["resources"]["limits"].update({"ephemeral-storage": "1Gi"}),
        "before its volumes",
    ),
    ("memory", lambda m: main(m, "keyframes")["resources"]["limits"].update(memory="8Gi"), "by its own limits"),
    ("threads", lambda m: main(m, "clustering")["resources"]["limits"].update(cpu="8"), ""),
    ("threads", lambda m: main(m, "clustering")["env"].clear(), "computes with None threads"),
    ("labels", lambda m: m.one("Service", "api")["spec"]["selector"].update(x="y"), "leads to []"),
    ("labels", lambda m: m.one("Service", "api")["spec"]["ports"][0].update(targetPort="web"), "which nobody has"),
    (
        "labels",
        lambda m: deployment(m, "query")["selector"]["matchLabels"].pop("app.kubernetes.io/name"),
        "selects the pods",
    ),
    ("labels", lambda m: m.one("ScaledObject", "query")["spec"]["scaleTargetRef"].update(name="search"), "not there"),
    ("labels", lambda m: m.one("Ingress", "api")["spec"]["tls"].clear(), "without TLS"),
    ("references", lambda m: volume(m, "api", "secrets")["secret"].update(secretName="other"), "Secret other"),
    ("references", lambda m: m.objects.remove(m.one("ConfigMap", "reelmap")), "ConfigMap reelmap-"),
    (
        "references",
        lambda m: m.objects.append({"kind": "Secret", "metadata": {"name": "x"}}),
        "stands in the manifests",
    ),
    ("scaler_references", lambda m: m.one("ConfigMap", "reelmap-scaler")["data"].pop("host"), "KEDA"),
    ("secret_files", lambda m: volume(m, "api", "secrets")["secret"]["items"].pop(), "which is not mounted"),
    ("secret_files", lambda m: main(m, "clustering")["env"].clear(), "and needs not"),
    ("jobs", lambda m: without(m.one("Job", "migrate")["spec"], "ttlSecondsAfterFinished"), "stays for ever"),
    ("waiting", lambda m: spec(m, "dispatcher")["initContainers"].clear(), "does not wait"),
    (
        "namespace",
        lambda m: m.one("Service", "api")["metadata"].update(namespace="default"),
        "in no namespace or another",
    ),
    ("namespace", lambda m: m.one("Namespace", "reelmap")["metadata"]["labels"].clear(), "not restricted"),
]


@pytest.mark.parametrize("policy, break_it, words", BREAKS, ids=[f"{p}: {w}" for p, _, w in BREAKS])
def test_a_manifest_that_breaks_it_is_caught(policy, break_it, words):
    manifests = overlay("gpu")
    break_it(manifests)
    said = list(POLICIES[policy](manifests))
    if policy == "threads" and not words:
        assert said == [], "the number follows the limit"
    else:
        assert any(words in each for each in said), said


def test_every_policy_has_been_seen_to_catch_something():
    assert {policy for policy, _, words in BREAKS if words} == set(POLICIES)
