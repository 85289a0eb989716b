"""What the manifests say about the code is so: settings, commands, ports, paths, queues."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from services.api.app import create_app
from services.api.server import WORKERS
from shared.celery_app import worker_name
from shared.pipeline import Queue
from shared.scaler_role import CONNECTIONS, ROLE, VIEW
from shared.settings import Settings, file_variable_of, is_secret, load_settings, variable_of
from tests.k8s.rendering import COMPONENTS, OVERLAYS, ROOT, Manifests, Pod, combination, environ_of, overlay

#: Settings that no manifest mentions, and why their default is right in a cluster too.
DEFAULT_IS_RIGHT = {
    "own_models": "no models of your own until somebody has some; then in an overlay's settings.env",
    "server": "the command line's",
    "lease_s": "a lease is about processes that die, which they do the same everywhere",
    "heartbeat_s": "goes with the lease",
    "backoff_s": "about servers of videos",
    "keyframes_deadline_s": "about videos, not machines",
    "embedding_deadline_s": "generous also for a CPU",
    "clustering_deadline_s": "generous also for a few cores",
    "exports_deadline_s": "generous also for a slow store",
    "exports_kept_days": "about people",
    "dispatch_interval_s": "NOTIFY wakes the dispatcher anyway",
    "sent_window": "an upper bound; the dispatcher finds how much the workers take",
    "fetches_per_host": "about other people's servers; the query that scales keyframes has the same number",
    "resend_after_s": "about lost messages",
    "allow_private_hosts": "no: the network policy would not let it through either",
    "fetch_ports": "the network policy has the same ports",
    "allow_generic_extractor": "no: pages of strangers would decide what is requested",
    "max_video_bytes": "the volume `work` is made for it",
    "max_video_s": "about videos",
    "max_redirects": "about videos",
    "fetch_timeout_s": "about videos",
    "s3_sources": "none until somebody opens a bucket; then in an overlay's settings.env",
    "stall_after_s": "longer than any pod takes to start",
    "api_port": "the containers' port; the Service gives it another",
    "query_wait_s": "what a person waits; the Ingress waits longer",
    "session_s": "about people",
    "requests_per_minute": "about people and programs",
    "wrong_keys_per_minute": "about guessing",
    "log_level": "INFO; the cluster keeps the log",
    "database_password": "only ever in a file, by database_password_file",  # pragma: allowlist secret
    "redis_password": "only ever in a file",  # pragma: allowlist secret
    "cookie_secret": "only ever in a file",  # pragma: allowlist secret
    "s3_access_key": "only ever in a file, or the pod has a role",  # pragma: allowlist secret
    "s3_secret_key": "only ever in a file, or the pod has a role",  # pragma: allowlist secret
    "s3_endpoint": "AWS; for another store, in an overlay's settings.env",
    "s3_public_endpoint": "the same store; in an overlay's settings.env where browsers reach it by another name",
    "key": "of the command line, which runs elsewhere",
    "failpoints_folder": "for tests of faults only",
}
#: Variables of others that our containers set, and whose they are.
NOT_OURS = {"OMP_NUM_THREADS": "OpenMP, in the libraries that compute"}


@pytest.fixture(scope="module")
def every(tmp_path_factory) -> list[Manifests]:
    """Each overlay, and everything at once."""
    everything = combination(COMPONENTS, tmp_path_factory.mktemp("code") / "everything")
    return [*map(overlay, OVERLAYS), everything]


def our_pods(manifests: Manifests) -> list[Pod]:
    return [pod for pod in manifests.pods if pod.containers[0]["name"] == "reelmap"]


def test_every_variable_is_one_that_is_read(every):
    known = {variable_of(setting) for setting in fields(Settings)}
    known |= {file_variable_of(setting) for setting in fields(Settings) if is_secret(setting)}
    for manifests in every:
        for pod in our_pods(manifests):
            for container in pod.all_containers:
                assert environ_of(manifests, pod, container).keys() - known - NOT_OURS.keys() == set(), pod.name


def test_every_setting_is_said_or_its_default_is_right(every):
    said = {name for m in every for pod in our_pods(m) for c in pod.all_containers for name in environ_of(m, pod, c)}
    unsaid = {setting.name for setting in fields(Settings) if variable_of(setting) not in said}
    assert unsaid == set(DEFAULT_IS_RIGHT)
    secrets = {setting for setting in fields(Settings) if is_secret(setting) and setting.name in DEFAULT_IS_RIGHT}
    assert {setting.name for setting in secrets if file_variable_of(setting) not in said} == {"key"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_process_takes_its_environment(name, tmp_path):
    manifests = overlay(name)
    for pod in our_pods(manifests):
        for container in pod.all_containers:
            environ = environ_of(manifests, pod, container)
            for variable, path in environ.items():
                if path.startswith("/run/secrets/"):
                    file = tmp_path / Path(path).name
                    file.write_text("s" * 64)
                    environ[variable] = str(file)
            settings = load_settings(environ)
            settings.require("database_url", "redis_url", "work_folder")
            assert bool(settings.blobs_folder) != bool(settings.blobs_bucket)
            if pod.name == "fetch-weights":
                continue
            assert "s" * 64 in settings.database_url
            if pod.kind == "Deployment" and container in pod.containers:
                assert settings.alive_file is not None or pod.name == "api"
                assert ("s" * 64 in settings.redis_url) == (pod.name != "api")


def test_writable_folders_are_mounted(every):
    for manifests in every:
        for pod in our_pods(manifests):
            mounted = {mount["mountPath"]: mount for mount in pod.containers[0]["volumeMounts"]}
            environ = environ_of(manifests, pod, pod.containers[0])
            if alive := environ.get("REELMAP_ALIVE_FILE"):
                assert str(Path(alive).parent) in mounted
            if pod.kind == "Deployment":
                assert environ["REELMAP_WORK_FOLDER"] in mounted
            if environ.get("REELMAP_BLOBS_FOLDER") and pod.kind == "Deployment" and pod.name != "clustering":
                assert environ["REELMAP_BLOBS_FOLDER"] in mounted
            if any(volume["name"] == "weights" for volume in pod.spec["volumes"]):
                assert mounted[environ["REELMAP_WEIGHTS_DIR"]].get("readOnly", False) == (pod.kind == "Deployment")
                assert pod.name in ("embedding", "query", "fetch-weights")


def commands(every: list[Manifests]) -> set[tuple[str, ...]]:
    """What is run: by containers (`args`, behind the image's init) and by probes."""
    found = set()
    for manifests in every:
        for pod in our_pods(manifests):
            for container in pod.all_containers:
                found.add(tuple(container["args"]))
                assert "command" not in container, "would go around the image's init"
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    if command := container.get(probe, {}).get("exec", {}).get("command"):
                        found.add(tuple(command))
    return found


def test_every_command_exists_with_its_options(every):
    for python, dash_m, module, *words in commands(every):
        assert (python, dash_m) == ("python", "-m")
        assert callable(importlib.import_module(module).main)
        if options := [word for word in words if word.startswith("--")]:
            asked = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, timeout=60)
            assert all(option in asked.stdout for option in options), (module, options)


def test_every_queue_has_a_worker_that_reads_it(every):
    for manifests in every:
        read = set()
        for pod in our_pods(manifests):
            module, *words = pod.containers[0]["args"][2:]
            if module.endswith(".worker"):
                queue = Queue(words[words.index("--queue") + 1] if "--queue" in words else module.split(".")[1])
                assert pod.name == queue.value and worker_name(queue) == f"reelmap-{pod.name}"
                read.add(queue)
        assert read == set(Queue)


def test_probes_look_at_the_file_that_the_process_touches(every):
    for manifests in every:
        for pod in our_pods(manifests):
            container = pod.containers[0]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if command := container.get(probe, {}).get("exec", {}).get("command"):
                    file = command[3]
                    assert file == environ_of(manifests, pod, container)["REELMAP_ALIVE_FILE"]


def test_the_api_has_the_paths_and_the_port(every):
    app = create_app(load_settings({"REELMAP_BLOBS_FOLDER": "/nowhere", "REELMAP_DATABASE_URL": "postgresql+psycopg2://x@y/z",
                                    "REELMAP_COOKIE_SECRET": "s" * 64}))  # fmt: skip
    routes = {rule.rule for rule in app.url_map.iter_rules()}
    for manifests in every:
        api = manifests.pod("api").containers[0]
        assert {api[p]["httpGet"]["path"] for p in ("startupProbe", "readinessProbe")} <= routes
        [port] = api["ports"]
        assert api["livenessProbe"]["tcpSocket"]["port"] == port["name"]
        settings = load_settings({k: v for k, v in environ_of(manifests, manifests.pod("api"), api).items()
                                  if not k.endswith("_FILE")})  # fmt: skip
        assert port["containerPort"] == settings.api_port
        assert settings.api_host == "0.0.0.0"


def test_the_ingress_lets_through_what_the_api_takes(every):
    for manifests in every:
        api = manifests.pod("api")
        most = int(environ_of(manifests, api, api.containers[0])["REELMAP_MAX_UPLOAD_BYTES"])
        for ingress in manifests.of("Ingress"):
            annotations = ingress["metadata"]["annotations"]
            size = annotations["nginx.ingress.kubernetes.io/proxy-body-size"]
            assert int(size.removesuffix("m")) * 2**20 == most
            assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 2 * Settings().query_wait_s
        trusted = int(environ_of(manifests, api, api.containers[0])["REELMAP_TRUSTED_PROXIES"])
        assert trusted == len(manifests.of("Ingress")), "believed as many proxies as there are"


def test_keda_asks_for_queues_by_the_view_and_the_role(every):
    [everything] = [each for each in every if each.name.count("+") > 3]
    queries = {
        each["metadata"]["name"]: trigger["metadata"]["query"]
        for each in everything.of("ScaledObject")
        for trigger in each["spec"]["triggers"]
    }
    assert {name: re.findall(r"queue = '(\w+)'", query) for name, query in queries.items()} == {
        q.value: [q.value] for q in Queue
    }
    assert all(f" FROM {VIEW} " in query for query in queries.values())
    assert f"least(tasks, {Settings().fetches_per_host} * hosts)" in queries["keyframes"]
    assert everything.one("ConfigMap", "reelmap-scaler")["data"]["userName"] == ROLE
    processes = environ_of(everything, everything.pod("keyframes"), everything.pod("keyframes").containers[0])
    [trigger] = everything.one("ScaledObject", "keyframes")["spec"]["triggers"]
    assert trigger["metadata"]["targetQueryValue"] == processes["REELMAP_KEYFRAMES_PROCESSES"]


def test_postgres_has_room_for_every_connection(every):
    """docs/operations.md: 2 for each task at a time, 3 for a dispatcher, 20 for each of the API's two processes."""
    [everything] = [each for each in every if each.name.count("+") > 3]
    most = {each["metadata"]["name"]: each["spec"]["maxReplicaCount"] for each in everything.of("ScaledObject")}
    keyframes = everything.pod("keyframes")
    processes = environ_of(everything, keyframes, keyframes.containers[0])["REELMAP_KEYFRAMES_PROCESSES"]
    tasks = {"keyframes": int(processes)}
    of_workers = sum(2 * tasks.get(name, 1) * count for name, count in most.items())
    replicas = {each["metadata"]["name"]: each["spec"].get("replicas", 1) for each in everything.of("Deployment")}
    # One more of each during an update; 20 for migrations, waiting init containers and people.
    total = (replicas["api"] + 1) * WORKERS * 20 + (replicas["dispatcher"] + 1) * 3 + of_workers + CONNECTIONS + 20
    args = shlex.join(everything.pod("postgres").containers[0]["args"])
    assert total <= int(re.search(r"max_connections=(\d+)", args)[1])
    words = " ".join((ROOT / "docs" / "kubernetes.md").read_text().split())
    assert f"at most {total} connections" in words
