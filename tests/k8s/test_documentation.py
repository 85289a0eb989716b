"""Every command in docs/kubernetes.md says what stands for it, and names what is there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from shared.catalog import DEFAULT_MODELS
from shared.pipeline import Queue
from tests.k8s.policies import SECRET, SECRET_KEYS
from tests.k8s.rendering import (
    COMPONENTS,
    ENVIRON,
    K8S,
    OVERLAYS,
    ROOT,
    combination,
    environ_of,
    kubectl,
    overlay,
    render,
)

TEXT = (ROOT / "docs" / "kubernetes.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


def command_of(line: str) -> str:
    """The command, without its remark."""
    return line.partition("  #")[0].strip()


def test_every_command_says_what_stands_for_it():
    assert len(COMMANDS) > 15
    for line in COMMANDS:
        assert re.search(r"# (run|checked: |not run)", line), line
        for test in re.findall(r"test_\w+\.py", line):
            assert (ROOT / "tests" / "k8s" / test).exists(), line


def test_every_folder_of_k8s_is_in_the_table():
    for name in COMPONENTS:
        assert f"| `components/{name}` |" in TEXT
    for name in OVERLAYS:
        assert name in re.search(r"^\| `overlays/.*$", TEXT, re.MULTILINE)[0]


def test_every_object_that_a_command_names_is_there(tmp_path):
    there = {
        (each["kind"].lower(), each["metadata"]["name"]) for each in combination(COMPONENTS, tmp_path / "all").objects
    }
    named = set()
    for line in COMMANDS:
        named |= set(re.findall(r"\b(job|deployment|service)/([\w-]+)", line))
        if found := re.search(r"delete job ([\w -]+?) --", line):
            named |= {("job", name) for name in found[1].split()}
        if found := re.search(r"-k (\S+)|-f (k8s/\S+)", line):
            path = found[1] or found[2]
            assert path.endswith("/mine") or (ROOT / path).exists(), line
    assert named <= there
    assert {name for kind, name in there if kind == "job"} <= {name for _, name in named}, (
        "each Job is waited for or looked at"
    )


def test_whoever_follows_the_commands_has_the_weights_of_the_default_models():
    trying, cluster = (
        re.search(rf"^## {heading}\n.*?```sh\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)[1]
        for heading in ("Trying it out with kind", "A cluster")
    )
    # With kind, by the Job, which is waited for; in a cluster, in every image that the overlays run.
    kind = overlay("kind")
    assert kind.one("Job", "fetch-weights") and "wait --for=condition=complete job/fetch-weights" in trying
    folder = environ_of(kind, kind.pod("fetch-weights"), kind.pod("fetch-weights").containers[0])["REELMAP_WEIGHTS_DIR"]
    for name in ("fetch-weights", "embedding", "query"):
        mounts = {mount["mountPath"]: mount["name"] for mount in kind.pod(name).containers[0]["volumeMounts"]}
        assert mounts.get(folder) == "weights"
    built = {
        shlex.split(command_of(line))[-2]
        for line in cluster.splitlines()
        if f'--build-arg WEIGHTS="{" ".join(DEFAULT_MODELS)}"' in line
    }
    run = {overlay(name).pod(pod).containers[0]["image"] for name in ("cpu", "gpu") for pod in ("embedding", "query")}
    assert built == run


def secret(command: str, cwd: Path) -> set[str]:
    """The keys of the Secret that the documented command makes, run as it stands, but told to only show it."""
    (cwd / "bin").mkdir(exist_ok=True)
    (cwd / "bin" / "kubectl").unlink(missing_ok=True)
    (cwd / "bin" / "kubectl").symlink_to(kubectl())
    environ = {"PATH": f"{cwd / 'bin'}:{os.environ['PATH']}", **ENVIRON}
    command = f"{command} --dry-run=client -o yaml"
    done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, cwd=cwd, env=environ, timeout=60)
    assert done.returncode == 0, done.stderr
    made = yaml.safe_load(done.stdout)
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == (SECRET, "reelmap")
    return set(made["data"])


def keys_read(name: str) -> set[str]:
    manifests = overlay(name)
    keys = {
        item["key"]
        for pod in manifests.pods
        for volume in pod.spec["volumes"]
        for item in volume.get("secret", {}).get("items", [])
    }
    return keys | {r["key"] for each in manifests.of("TriggerAuthentication") for r in each["spec"]["secretTargetRef"]}


def test_the_secret_commands_make_what_the_pods_read(tmp_path):
    literal, files = [command_of(line) for line in COMMANDS if "create secret generic" in line]
    assert secret(literal, tmp_path) == keys_read("kind")
    (tmp_path / "secrets").mkdir()
    documented = (
        set(re.findall(r"`(\w+)`", TEXT[TEXT.index("| key | for |") : TEXT.index("Each pod mounts only")]))
        & SECRET_KEYS
    )
    for key in documented:
        (tmp_path / "secrets" / key).write_text("x")
    assert secret(files, tmp_path) == keys_read("gpu") == SECRET_KEYS


def test_a_copied_overlay_builds(tmp_path):
    copy = shlex.split(next(command_of(line) for line in COMMANDS if line.startswith("cp ")))
    assert copy[2:] == ["k8s/overlays/gpu", "k8s/overlays/mine"]
    shutil.copytree(K8S, tmp_path / "k8s")
    subprocess.run(copy, check=True, cwd=tmp_path)
    assert render(tmp_path / "k8s/overlays/mine").objects == overlay("gpu").objects


@pytest.mark.parametrize("name", [queue.value for queue in Queue])
def test_the_table_of_pods_is_right(name):
    spec = overlay("gpu").one("ScaledObject", name)["spec"]
    least, most, each = re.search(rf"^\| {name} \| (\d+) to (\d+) \| (\d+) ", TEXT, re.MULTILINE).groups()
    assert (int(least), int(most)) == (spec["minReplicaCount"], spec["maxReplicaCount"])
    assert each == spec["triggers"][0]["metadata"]["targetQueryValue"]


def test_the_table_of_stops_is_right():
    said = dict(re.findall(r"^\| (\w+) \| (\d+) s \|", TEXT, re.MULTILINE))
    manifests = overlay("gpu")
    assert said == {
        pod.name: str(pod.spec.get("terminationGracePeriodSeconds", 30))
        for pod in manifests.pods
        if pod.kind == "Deployment"
    }
