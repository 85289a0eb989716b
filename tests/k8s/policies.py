"""What our manifests must hold to beside Pod Security: each policy yields a sentence for each thing that breaks it."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from services.api.server import THREADS, WORKERS, Server
from services.dispatcher.main import STOP_CLEANING_S
from services.keyframes.reading.limits import DecodeLimits
from shared.pipeline import Queue
from shared.settings import Settings, file_variable_of, is_secret, load_settings
from tests.k8s.pod_security import PROBES, violations
from tests.k8s.rendering import ROOT, Manifests, Object, Pod, environ_of, quantity

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
USER_ID = 10001
#: The Deployments that do tasks: each bears the name of its queue.
TASK_WORKERS = {queue.value for queue in Queue}
#: Whose images say what they run as; ours have one user.
FOREIGN = {"postgres", "redis"}
LONG_LIVED = ("Deployment", "StatefulSet")

Policy = Callable[[Manifests], Iterator[str]]


def settings_of(manifests: Manifests, pod: Pod) -> Settings:
    """The settings of a pod's main process, without secrets, which only the cluster knows."""
    environ = environ_of(manifests, pod, pod.containers[0])
    of_secrets = {file_variable_of(setting) for setting in fields(Settings) if is_secret(setting)}
    return load_settings({name: text for name, text in environ.items() if name not in of_secrets})


def rights(manifests: Manifests) -> Iterator[str]:
    """A fixed user, a root that cannot be written to, no token, an account of its own, no variables of Services."""
    accounts = {each["metadata"]["name"]: each for each in manifests.of("ServiceAccount")}
    for pod in manifests.pods:
        context = pod.spec.get("securityContext", {})
        if pod.name not in FOREIGN and (context.get("runAsUser"), context.get("runAsGroup")) != (USER_ID, USER_ID):
            yield f"{pod.name} does not run as {USER_ID}"
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.name} gets a token"
        if pod.spec.get("serviceAccountName") != pod.name or pod.name not in accounts:
            yield f"{pod.name} has no account of its own"
        elif accounts[pod.name].get("automountServiceAccountToken") is not False:
            yield f"the account {pod.name} gives tokens"
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.name} gets variables of Services, which could be named like settings"
        for container in pod.all_containers:
            if not container.get("securityContext", {}).get("readOnlyRootFilesystem"):
                yield f"{pod.name}/{container['name']} may write to its root"


def resources(manifests: Manifests) -> Iterator[str]:
    """Requests and limits of memory and CPU everywhere, requests not above limits; GPUs in limits only and whole."""
    for pod in manifests.pods:
        for container in pod.all_containers:
            has = container.get("resources", {})
            requests, limits = has.get("requests", {}), has.get("limits", {})
            where = f"{pod.name}/{container['name']}"
            for name in ("cpu", "memory"):
                if name not in requests or name not in limits:
                    yield f"{where} has no request or no limit of {name}"
            for name in requests.keys() & limits.keys():
                if quantity(requests[name]) > quantity(limits[name]):
                    yield f"{where} requests more {name} than its limit"
            for name, text in (requests | limits).items():
                if "/" in name and (name not in limits or not float(text).is_integer()):
                    yield f"{where}: {name} must be a whole number in limits"


def images(manifests: Manifests) -> Iterator[str]:
    """A tag that is a version: ours that of pyproject.toml, and never `latest`."""
    for pod in manifests.pods:
        for container in pod.all_containers:
            name, _, tag = container["image"].rpartition("/")[2].partition(":")
            if not tag or "latest" in tag:
                yield f"{pod.name}: {container['image']} names no version"
            if name.startswith("reelmap-") and not re.fullmatch(rf"{re.escape(VERSION)}(-cpu|-cuda)?", tag):
                yield f"{pod.name}: {container['image']} is not of version {VERSION}"
            if (name == "reelmap-embedding") != tag.endswith(("-cpu", "-cuda")):
                yield f"{pod.name}: {container['image']}: embedding, and only that, comes in two variants"
            if tag.endswith("-cuda") != any("nvidia.com/" in limit for limit in container["resources"]["limits"]):
                yield f"{pod.name}: {container['image']} and a GPU belong together"


def probes(manifests: Manifests) -> Iterator[str]:
    """Every process that stays has all three; a liveness probe asks no server, holds no thread, and is patient."""
    for pod in manifests.pods:
        if pod.kind not in LONG_LIVED:
            continue
        container = pod.containers[0]
        for name in PROBES:
            if name not in container:
                yield f"{pod.name} has no {name}"
            elif container[name].get("timeoutSeconds", 1) < 3:
                yield f"{pod.name}: {name} gives a busy machine less than 3 s"
        live = container.get("livenessProbe", {})
        if "httpGet" in live:
            yield f"{pod.name} would be restarted because slow uploads hold its threads"
        for name in ("startupProbe", "livenessProbe"):
            if container.get(name, {}).get("httpGet", {}).get("path") == "/readyz":
                yield f"{pod.name} would be restarted because Postgres is away"
        if live.get("periodSeconds", 10) * live.get("failureThreshold", 3) < 60:
            yield f"{pod.name} is restarted after less than a minute"
        start = container.get("startupProbe", {})
        if start.get("periodSeconds", 10) * start.get("failureThreshold", 3) < 150:
            yield f"{pod.name} gets less than 150 s to start"


def replicas(manifests: Manifests) -> Iterator[str]:
    """What KEDA scales has no replicas of its own, or an apply would stop workers; nothing but workers goes to none."""
    for deployment in manifests.of("Deployment"):
        name, spec = deployment["metadata"]["name"], deployment["spec"]
        if name in manifests.scaled and "replicas" in spec:
            yield f"{name} has replicas, which KEDA decides"
        if spec.get("replicas") == 0:
            yield f"{name} has no replica"


def disruptions(manifests: Manifests) -> Iterator[str]:
    """Every Deployment has a PodDisruptionBudget, and none ever stops a drain, whether 0, 1 or more pods are there."""
    budgets = manifests.of("PodDisruptionBudget")
    for deployment in manifests.of("Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        over = [each for each in budgets if selects(each["spec"]["selector"], labels)]
        if len(over) != 1:
            yield f"{deployment['metadata']['name']} has {len(over)} PodDisruptionBudgets"
        for budget in over:
            for pods in (1, 2, 5):
                if disruptions_allowed(budget["spec"], pods) < 1:
                    yield f"{budget['metadata']['name']}: a drain would wait for ever with {pods} pods"
            if budget["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
                yield f"{budget['metadata']['name']}: pods that are not ready would stop a drain"


def disruptions_allowed(spec: Object, pods: int) -> int:
    """How many of so many healthy pods may be evicted at once."""

    def count(value: int | str) -> int:
        return math.ceil(int(value.rstrip("%")) * pods / 100) if isinstance(value, str) else value

    if "maxUnavailable" in spec:
        return min(pods, count(spec["maxUnavailable"]))
    return pods - count(spec["minAvailable"])


def grace(manifests: Manifests) -> Iterator[str]:
    """Nothing is killed before it has ended by itself, nor left alone for long after its task was handed back."""
    for pod in manifests.pods:
        if pod.kind != "Deployment":
            continue
        hook = pod.containers[0].get("lifecycle", {}).get("preStop", {})
        needed_s = _stop_s(manifests, pod) + hook.get("sleep", {}).get("seconds", 0)
        has_s = pod.spec.get("terminationGracePeriodSeconds", 30)
        if has_s < needed_s:
            yield f"{pod.name} is killed after {has_s} s and needs {needed_s:g}"
        if has_s > needed_s + STOP_SPARE_S:
            yield f"{pod.name} has {has_s} s and by its settings uses {needed_s:g}"
    api = manifests.pod("api")
    if not api.containers[0].get("lifecycle", {}).get("preStop"):
        yield "api ends while proxies still send it requests"


#: Seconds beside what is known from settings: to notice the request, save, close connections.
STOP_MARGIN_S = 5
#: What a pod may have beside that: a computation that cannot be interrupted goes on in it, with its task handed back.
STOP_SPARE_S = 60


def _stop_s(manifests: Manifests, pod: Pod) -> float:
    settings = settings_of(manifests, pod)
    if pod.name == "api":
        server = Server(settings)
        return float(server.cfg.graceful_timeout) + STOP_MARGIN_S
    if pod.name == "dispatcher":
        return STOP_CLEANING_S + 2 * STOP_MARGIN_S
    return settings.stop_grace_s + STOP_MARGIN_S


def rollouts(manifests: Manifests) -> Iterator[str]:
    """Who is waited for is replaced before he goes; who needs a GPU goes before he is replaced."""
    for deployment in manifests.of("Deployment"):
        name, rolling = deployment["metadata"]["name"], deployment["spec"].get("strategy", {}).get("rollingUpdate", {})
        if name in ("api", "query", "dispatcher") and rolling.get("maxUnavailable") != 0:
            yield f"{name} is away during an update"
        if name in TASK_WORKERS - {"query"} and rolling.get("maxSurge") != 0:
            yield f"{name} takes room for one more during an update"


def volumes(manifests: Manifests) -> Iterator[str]:
    """Mounts and volumes belong together; what is written to has a bound, and the code's own is below it."""
    for pod in manifests.pods:
        claims = {each["metadata"]["name"] for each in pod.owner["spec"].get("volumeClaimTemplates", [])}
        named = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
        mounted = {mount["name"]: mount for each in pod.all_containers for mount in each.get("volumeMounts", [])}
        if set(named) | claims != set(mounted):
            yield f"{pod.name}: volumes {sorted(set(named) | claims)} and mounts {sorted(mounted)}"
        for name, volume in named.items():
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod.name}: {name} may fill the node's disk"
            if "secret" in volume and not mounted.get(name, {}).get("readOnly"):
                yield f"{pod.name}: {name} may be written to"
        sizes = {
            name: quantity(volume["emptyDir"].get("sizeLimit", "0"))
            for name, volume in named.items()
            if "emptyDir" in volume
        }
        on_disk = sum(size for name, size in sizes.items() if named[name]["emptyDir"].get("medium") != "Memory")
        allowed = pod.containers[0]["resources"]["limits"].get("ephemeral-storage")
        if allowed is not None and quantity(allowed) < on_disk:
            yield f"{pod.name} is evicted before its volumes are full"
        if allowed is None and on_disk > 2**30:
            yield f"{pod.name} has no limit of ephemeral-storage"
        if (needed := _work_bytes(manifests, pod)) > sizes.get("work", math.inf):
            yield f"{pod.name}: the code may write {needed / 2**30:.1f} GiB into the volume work, which evicts the pod"


def _work_bytes(manifests: Manifests, pod: Pod) -> float:
    """What the code may have in its work folder at once."""
    if pod.name not in ("api", "keyframes"):
        return 0
    settings = settings_of(manifests, pod)
    if pod.name == "api":
        # A file of a form is there as it came in, and once more while its bytes are counted and stored.
        return WORKERS * THREADS * 2 * settings.max_upload_bytes
    return settings.keyframes_processes * 2 * settings.max_video_bytes


def memory(manifests: Manifests) -> Iterator[str]:
    """A video that takes too much is stopped by its own limit, before the container's takes its neighbours along."""
    pod = manifests.pod("keyframes")
    needed = settings_of(manifests, pod).keyframes_processes * DecodeLimits().max_memory_bytes
    if quantity(pod.containers[0]["resources"]["limits"]["memory"]) <= needed:
        yield f"keyframes may take {needed / 2**30:.0f} GiB by its own limits, and the container less"


def threads(manifests: Manifests) -> Iterator[str]:
    """Libraries that compute start as many threads as the container has cores, not as the machine has."""
    for pod in manifests.pods:
        if pod.kind == "Deployment" and pod.name in TASK_WORKERS:
            cores = math.ceil(quantity(pod.containers[0]["resources"]["limits"]["cpu"]))
            found = environ_of(manifests, pod, pod.containers[0]).get("OMP_NUM_THREADS")
            if found != str(cores):
                yield f"{pod.name} computes with {found} threads on {cores} cores"


def labels(manifests: Manifests) -> Iterator[str]:
    """Whatever selects something finds it, and whatever names something names what is there."""
    pods = list(manifests.pods)
    for deployment in [*manifests.of("Deployment"), *manifests.of("StatefulSet")]:
        chosen = [pod.name for pod in pods if selects(deployment["spec"]["selector"], pod.labels)]
        if chosen != [deployment["metadata"]["name"]]:
            yield f"{deployment['metadata']['name']} selects the pods of {chosen}"
    services = {each["metadata"]["name"]: each["spec"] for each in manifests.of("Service")}
    for name, spec in services.items():
        chosen = [pod for pod in pods if selects({"matchLabels": spec["selector"]}, pod.labels)]
        if [pod.name for pod in chosen] != [name]:
            yield f"the Service {name} leads to {[pod.name for pod in chosen]}"
            continue
        ports = {port["name"] for port in chosen[0].containers[0]["ports"]}
        if missing := {port["targetPort"] for port in spec["ports"]} - ports:
            yield f"the Service {name} leads to ports {missing}, which nobody has"
    for budget in manifests.of("PodDisruptionBudget"):
        if [pod.name for pod in pods if selects(budget["spec"]["selector"], pod.labels)] != [
            budget["metadata"]["name"]
        ]:
            yield f"the PodDisruptionBudget {budget['metadata']['name']} is for others"
    for ingress in manifests.of("Ingress"):
        for path in (path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]):
            backend = path["backend"]["service"]
            if backend["port"]["name"] not in {
                port["name"] for port in services.get(backend["name"], {}).get("ports", [])
            }:
                yield f"the Ingress leads to {backend}, which is not there"
        if {rule["host"] for rule in ingress["spec"]["rules"]} != {
            host for tls in ingress["spec"]["tls"] for host in tls["hosts"]
        }:
            yield "the Ingress answers for hosts without TLS"
    deployments = {each["metadata"]["name"] for each in manifests.of("Deployment")}
    if missing := manifests.scaled - deployments:
        yield f"ScaledObjects scale {missing}, which are not there"


def references(manifests: Manifests) -> Iterator[str]:
    """Claims, ConfigMaps, Secrets and their keys that are named exist, or are the ones that a person makes."""
    config_maps = {each["metadata"]["name"]: each["data"] for each in manifests.of("ConfigMap")}
    claims = {each["metadata"]["name"] for each in manifests.of("PersistentVolumeClaim")}
    if manifests.of("Secret"):
        yield "a Secret stands in the manifests"
    for pod in manifests.pods:
        for volume in pod.spec.get("volumes", []):
            if "secret" in volume and volume["secret"]["secretName"] != SECRET:
                yield f"{pod.name}: Secret {volume['secret']['secretName']}"
            for item in volume.get("secret", {}).get("items", [{"key": "all of them"}]):
                if "secret" in volume and item["key"] not in SECRET_KEYS:
                    yield f"{pod.name}: key {item['key']} of the Secret"
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in claims:
                yield f"{pod.name}: claim {claim}"
        for container in pod.all_containers:
            for source in container.get("envFrom", []):
                if source["configMapRef"]["name"] not in config_maps:
                    yield f"{pod.name}: ConfigMap {source['configMapRef']['name']}"


def scaler_references(manifests: Manifests) -> Iterator[str]:
    """What KEDA is told to look up is there."""
    config_maps = {each["metadata"]["name"]: each["data"] for each in manifests.of("ConfigMap")}
    for each in manifests.of("TriggerAuthentication"):
        for reference in each["spec"]["configMapTargetRef"]:
            if reference["key"] not in config_maps.get(reference["name"], {}):
                yield f"KEDA: {reference}"
        for reference in each["spec"]["secretTargetRef"]:
            if reference["name"] != SECRET or reference["key"] not in SECRET_KEYS:
                yield f"KEDA: {reference}"
    authentications = {each["metadata"]["name"] for each in manifests.of("TriggerAuthentication")}
    for each in manifests.of("ScaledObject"):
        for trigger in each["spec"]["triggers"]:
            if trigger["authenticationRef"]["name"] not in authentications:
                yield f"KEDA: {each['metadata']['name']} has no password"


SECRET = "reelmap"  # pragma: allowlist secret
SECRET_KEYS = {
    "database_password",
    "redis_password",
    "cookie_secret",
    "s3_access_key",
    "s3_secret_key",
    "scaler_password",
}


def secret_files(manifests: Manifests) -> Iterator[str]:
    """Every `_FILE` variable and password argument names a file that is mounted, and no key is mounted for nobody."""
    for pod in manifests.pods:
        for container in pod.all_containers:
            paths = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
            there = {
                f"{paths[volume['name']]}/{item['path']}"
                for volume in pod.spec.get("volumes", [])
                if "secret" in volume and volume["name"] in paths
                for item in volume["secret"]["items"]
            }
            said = [
                v["value"] for v in container.get("env", []) if v["name"].endswith("_FILE") and "/run/" in v["value"]
            ]
            said += re.findall(
                r"/run/secrets/[\w/-]+", " ".join([*container.get("command", []), *container.get("args", [])])
            )
            if missing := set(said) - there:
                yield f"{pod.name}/{container['name']} reads {sorted(missing)}, which is not mounted"
            if container in pod.containers and (unread := there - set(said)):
                yield f"{pod.name}/{container['name']} could read {sorted(unread)} and needs not"


def jobs(manifests: Manifests) -> Iterator[str]:
    """Jobs end, are tried again a few times, and are cleared away."""
    for job in manifests.of("Job"):
        spec = job["spec"]
        if spec["template"]["spec"].get("restartPolicy") != "Never" or not 0 < spec.get("backoffLimit", 6) <= 6:
            yield f"{job['metadata']['name']} is tried for ever"
        if "ttlSecondsAfterFinished" not in spec:
            yield f"{job['metadata']['name']} stays for ever"


def waiting(manifests: Manifests) -> Iterator[str]:
    """Whatever reads the database waits for its schema first, but for who makes it."""
    for pod in manifests.pods:
        first: dict[str, Any] = next(iter(pod.spec.get("initContainers", [])), {})
        needs = pod.name not in (*FOREIGN, "migrate", "fetch-weights")
        if needs and first.get("args") != ["python", "-m", "shared.migrate", "--wait"]:
            yield f"{pod.name} does not wait for the schema"


def namespace(manifests: Manifests) -> Iterator[str]:
    """Everything is in the one namespace, which refuses what is not restricted."""
    for each in manifests.objects:
        if each["kind"] != "Namespace" and each["metadata"].get("namespace") != "reelmap":
            yield f"{each['kind']} {each['metadata']['name']} is in no namespace or another"
    enforced = {"pod-security.kubernetes.io/" + mode: "restricted" for mode in ("enforce", "audit", "warn")}
    for each in manifests.of("Namespace"):
        if not enforced.items() <= each["metadata"].get("labels", {}).items():
            yield "the namespace takes pods that are not restricted"


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector chooses what has these labels."""
    for expression in selector.get("matchExpressions", []):
        has, value = expression["key"] in labels, labels.get(expression["key"])
        result = {
            "In": value in expression.get("values", []),
            "NotIn": value not in expression.get("values", []),
            "Exists": has,
            "DoesNotExist": not has,
        }[expression["operator"]]
        if not result:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


POLICIES: dict[str, Policy] = {
    "pod_security": violations,
    **{
        policy.__name__: policy
        for policy in (
            rights, resources, images, probes, replicas, disruptions, grace, rollouts, volumes, memory, threads,
            labels, references, scaler_references, secret_files, jobs, waiting, namespace,
        )
    },
}  # fmt: skip
