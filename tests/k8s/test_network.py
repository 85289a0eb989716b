"""What the network policies let through, connection by connection: who may talk to whom, and who to the world."""

from __future__ import annotations

import re
import shutil
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from shared.egress.addresses import refusal
from shared.settings import load_settings
from tests.k8s.policies import selects, settings_of
from tests.k8s.rendering import K8S, Manifests, Object, combination, overlay, render

#: Who needs what, by reading the code: the API writes rows and sends no message, clustering reads and writes rows only.
NEEDS = {
    "api": {"postgres", "object-store"},
    "dispatcher": {"postgres", "redis", "object-store"},
    "keyframes": {"postgres", "redis", "object-store"},
    "embedding": {"postgres", "redis", "object-store"},
    "query": {"postgres", "redis", "object-store"},
    "clustering": {"postgres", "redis"},
    "exports": {"postgres", "redis", "object-store"},
    "migrate": {"postgres"},
    "scaler-role": {"postgres"},
    "fetch-weights": set(),
    "postgres": set(),
    "redis": set(),
}
PORTS = {"postgres": 5432, "redis": 6379, "object-store": 9000}
#: Addresses of the open internet, and the ports that videos are fetched from.
WORLD = ("93.184.216.34", "1.1.1.1", "2606:2800:220:1::1")
PRIVATE = (
    "10.0.0.1", "172.16.5.4", "192.168.1.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "0.0.0.0",
    "224.0.0.1", "240.0.0.1", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "255.255.255.255", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::a00:1", "2001:db8::1",
    "2002:a00:1::1", "2001::1", "3fff::1", "fec0::1",
)  # fmt: skip

SYSTEM = {"kubernetes.io/metadata.name": "kube-system"}
DNS = {"k8s-app": "kube-dns"}


def reaches(
    manifests: Manifests,
    labels: dict[str, str],
    port: int | str,
    *,
    address: str = "",
    pod: dict[str, str] | None = None,
    namespace: dict[str, str] | None = None,
    protocol: str = "TCP",
    direction: str = "Egress",
) -> bool:
    """Whether the policies let a pod with these labels connect (Ingress: be connected to).

    address: of the other side; pod and namespace: the other side's labels, without namespace one of our own.
    """
    over = [
        policy["spec"]
        for policy in manifests.of("NetworkPolicy")
        if selects(policy["spec"]["podSelector"], labels) and direction in policy["spec"]["policyTypes"]
    ]
    if not over:
        return True  # who no policy selects may do everything
    side = "to" if direction == "Egress" else "from"
    return any(
        {"port": port, "protocol": protocol} in rule.get("ports", [{"port": port, "protocol": protocol}])
        and any(_is_peer(peer, address, pod, namespace) for peer in rule[side])
        for spec in over
        for rule in spec.get(direction.lower(), [])
    )


def _is_peer(peer: Object, address: str, pod: dict[str, str] | None, namespace: dict[str, str] | None) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        # `in` is False for an address of the other version.
        return bool(address) and ip_address(address) in ip_network(block["cidr"]) and not any(
            ip_address(address) in ip_network(excepted) for excepted in block.get("except", [])
        )  # fmt: skip
    if pod is None:
        return False
    if "namespaceSelector" in peer:
        if namespace is None or not selects(peer["namespaceSelector"], namespace):
            return False
    elif namespace is not None:
        return False
    return selects(peer.get("podSelector", {}), pod)


@pytest.fixture(scope="module")
def inside(tmp_path_factory) -> Manifests:
    """Everything in one cluster, stores and KEDA too."""
    components = ["demo-stores", "keda", "networkpolicy", "weights-volume"]
    return combination(components, tmp_path_factory.mktemp("network") / "inside")


def labels_of(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


def test_every_pod_is_spoken_of(inside):
    assert {pod.name for pod in inside.pods} == set(NEEDS)


@pytest.mark.parametrize("name", NEEDS)
def test_each_reaches_the_stores_that_it_needs_and_no_other(inside, name):
    labels = inside.pod(name).labels
    reached = {store for store, port in PORTS.items() if reaches(inside, labels, port, pod=labels_of(store))}
    assert reached == NEEDS[name]
    for store in ("postgres", "redis"):
        lets_in = reaches(inside, labels_of(store), PORTS[store], pod=labels, direction="Ingress")
        assert lets_in == (store in NEEDS[name]), store


@pytest.mark.parametrize("name", NEEDS)
def test_each_may_ask_for_names(inside, name):
    for protocol in ("UDP", "TCP"):
        assert reaches(inside, inside.pod(name).labels, 53, pod=DNS, namespace=SYSTEM, protocol=protocol)


@pytest.mark.parametrize("name", NEEDS)
def test_only_who_fetches_leaves_the_cluster_and_to_no_network_of_ones_own(inside, name):
    labels = inside.pod(name).labels
    leaves = {
        (address, port) for address in WORLD for port in (80, 443) if reaches(inside, labels, port, address=address)
    }
    if name == "keyframes":
        assert leaves == {(address, port) for address in WORLD for port in (80, 443)}
    elif name == "fetch-weights":  # a Job that a person starts, with code of ours and no URL of a stranger
        assert leaves == {(address, 443) for address in WORLD}
    else:
        assert leaves == set()
    assert [a for a in PRIVATE for p in (80, 443, 5432, 22) if reaches(inside, labels, p, address=a)] == []


def test_what_the_code_refuses_the_network_refuses_too(inside):
    assert all(refusal(ip_address(address)) for address in PRIVATE)
    assert all(refusal(ip_address(address)) is None for address in WORLD)
    # The first address of every /16, and of every /8 of IPv6.
    sample = [f"{a}.{b}.0.1" for a in range(256) for b in range(0, 256, 3)] + [f"{a:x}00::1" for a in range(1, 256)]
    for name in ("keyframes", "fetch-weights"):
        labels = inside.pod(name).labels
        leaks = [a for a in sample if refusal(ip_address(a)) and reaches(inside, labels, 443, address=a)]
        assert leaks == [], name
    videos, weights = (inside.one("NetworkPolicy", n) for n in ("keyframes-to-internet", "fetch-weights-to-hubs"))
    assert videos["spec"]["egress"][0]["to"] == weights["spec"]["egress"][0]["to"]


def test_the_ports_are_those_that_the_code_fetches_from(inside):
    ports = settings_of(inside, inside.pod("keyframes")).fetch_port_numbers
    assert ports == load_settings({}).fetch_port_numbers
    labels = inside.pod("keyframes").labels
    assert {p for p in range(1, 10000) if reaches(inside, labels, p, address=WORLD[0])} == ports


def test_only_the_ingress_controller_comes_in(inside):
    ingress = {"kubernetes.io/metadata.name": "ingress-nginx"}
    for name in NEEDS:
        labels = inside.pod(name).labels
        for port in ("http", 8000, 5432, 6379):
            comes_in = reaches(inside, labels, port, pod={"any": "pod"}, namespace=ingress, direction="Ingress")
            assert comes_in == (name == "api" and port == "http")
            assert not reaches(
                inside, labels, port, pod={"any": "pod"}, namespace={"other": "one"}, direction="Ingress"
            )
            assert not reaches(inside, labels, port, address=WORLD[0], direction="Ingress")


def test_keda_reads_postgres_and_nothing_else(inside):
    keda: dict[str, Any] = {"pod": {"app": "keda-operator"}, "namespace": {"kubernetes.io/metadata.name": "keda"}}
    open_to = {name for name in NEEDS for port in (5432, 6379, "http")
               if reaches(inside, inside.pod(name).labels, port, direction="Ingress", **keda)}  # fmt: skip
    assert open_to == {"postgres"}


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_servers_elsewhere_are_reached_at_their_addresses_and_nowhere_else(name):
    manifests = overlay(name)
    servers = {"postgres": ("192.0.2.1", 5432), "redis": ("192.0.2.65", 6379), "object-store": ("192.0.2.129", 443)}
    for pod in manifests.pods:
        reached = {
            to for to, (address, port) in servers.items() if reaches(manifests, pod.labels, port, address=address)
        }
        assert reached == NEEDS[pod.name]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_another_ingress_controller_takes_a_class_and_a_namespace(name, tmp_path):
    shutil.copytree(K8S, tmp_path / "k8s")
    file = tmp_path / "k8s" / "overlays" / name / "kustomization.yaml"
    file.write_text(re.sub(r"value: (ingress-nginx|nginx)\b", "value: traefik", file.read_text()))
    manifests = render(file.parent)
    assert manifests.one("Ingress", "api")["spec"]["ingressClassName"] == "traefik"
    lets_in = {
        namespace
        for namespace in ("traefik", "ingress-nginx")
        if reaches(
            manifests,
            manifests.pod("api").labels,
            "http",
            pod={"any": "pod"},
            namespace={"kubernetes.io/metadata.name": namespace},
            direction="Ingress",
        )
    }
    assert lets_in == {"traefik"}


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_roles_of_pods_get_their_credentials_once_their_lines_are_taken_in(name, tmp_path):
    shutil.copytree(K8S, tmp_path / "k8s")
    policy = tmp_path / "k8s" / "overlays" / name / "servers" / "object-store.yaml"
    head, kind, rest = policy.read_text().partition("apiVersion")
    policy.write_text(head + kind + re.sub(r"# (?=[- ])", "", rest))
    with_roles = render(tmp_path / "k8s" / "overlays" / name)
    for pod in with_roles.pods:
        for address, port in (("192.0.2.193", 443), ("169.254.170.23", 80)):
            needs = "object-store" in NEEDS[pod.name]
            assert reaches(with_roles, pod.labels, port, address=address) == needs, pod.name
            assert not reaches(overlay(name), pod.labels, port, address=address), "nobody asks until somebody says so"


@pytest.mark.parametrize("missing", ["deny-all", "to-dns", "to-redis", "keyframes-to-internet"])
def test_a_policy_that_is_missing_is_noticed(inside, missing):
    manifests = Manifests("broken", [each for each in inside.objects if each["metadata"]["name"] != missing])
    labels = {name: manifests.pod(name).labels for name in NEEDS}
    whole = (
        not reaches(
            manifests, labels["dispatcher"], 8000, pod={"any": "pod"}, namespace={"a": "b"}, direction="Ingress"
        )
        and reaches(manifests, labels["api"], 53, pod=DNS, namespace=SYSTEM)
        and reaches(manifests, labels["embedding"], 6379, pod=labels_of("redis"))
        and reaches(manifests, labels["keyframes"], 443, address=WORLD[0])
    )
    assert not whole
