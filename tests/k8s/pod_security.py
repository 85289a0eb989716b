"""The Pod Security Standard "restricted", field by field: what a namespace that enforces it would refuse.

Written from the standard's table: everything of "baseline", then of "restricted". It restricts no field that is not
listed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.k8s.rendering import Manifests, Pod

SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
SELINUX_TYPES = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
PROFILES = {"RuntimeDefault", "Localhost"}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def violations(manifests: Manifests) -> Iterator[str]:
    """A sentence for each thing that the standard forbids."""
    for pod in manifests.pods:
        for said in (*_of_pod(pod), *_of_containers(pod)):
            yield f"{pod.kind} {pod.name}: {said}"


def _of_pod(pod: Pod) -> Iterator[str]:
    spec, context = pod.spec, pod.spec.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set"
    for volume in spec.get("volumes", []):
        if kinds := set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {', '.join(kinds)}"
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    for name, value in pod.owner["spec"]["template"]["metadata"].get("annotations", {}).items():
        if name.startswith("container.apparmor.security.beta.kubernetes.io/") and not value.startswith(
            ("runtime/default", "localhost/")
        ):
            yield f"AppArmor is {value}"
    yield from _of_either(context)


def _of_either(context: dict[str, Any]) -> Iterator[str]:
    """What a pod's and a container's security context have in common."""
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess is set"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"
    if (profile := context.get("appArmorProfile")) and profile["type"] not in PROFILES:
        yield f"AppArmor is {profile['type']}"
    if (profile := context.get("seccompProfile")) and profile["type"] not in PROFILES:
        yield f"seccomp is {profile['type']}"
    if context.get("runAsUser") == 0:
        yield "runs as root"
    if context.get("runAsNonRoot") is False:
        yield "runAsNonRoot is false"


def _of_containers(pod: Pod) -> Iterator[str]:
    of_pod = pod.spec.get("securityContext", {})
    for container in [*pod.all_containers, *pod.spec.get("ephemeralContainers", [])]:
        context = container.get("securityContext", {})
        for said in (*_of_either(context), *_of_container(container, context)):
            yield f"container {container['name']}: {said}"
        for field in ("runAsNonRoot", "seccompProfile"):
            if not context.get(field, of_pod.get(field)):
                yield f"container {container['name']}: no {field}"


def _of_container(container: dict[str, Any], context: dict[str, Any]) -> Iterator[str]:
    if context.get("privileged"):
        yield "privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("procMount", "Default") != "Default":
        yield "procMount"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities are not all dropped"
    if added := set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"capabilities {', '.join(added)} are added"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort"
    handlers = [container.get(probe, {}) for probe in PROBES] + list(container.get("lifecycle", {}).values())
    if any(handler.get(kind, {}).get("host") for handler in handlers for kind in ("httpGet", "tcpSocket")):
        yield "a probe or hook names a host"
