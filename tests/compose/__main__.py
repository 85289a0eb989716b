"""`make compose-test`: build the images, run Reelmap with Docker, break and update it, and see that nothing is lost.

With REELMAP_DATA_DIR real clips and really trained networks, else a corpus made on the spot and `hog_color`. What it
starts has names of its own, and is gone at the end, whatever happens. Exit code 0: every promise held.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import requests

from services.client import Client
from services.demo.corpus import make_corpus
from services.local.up import listen, port_of

ROOT = Path(__file__).parents[2]
PROJECT = "reelmap-compose-test"
MB = 1e6

#: What each image may weigh. The embedding image holds torch, whose wheels decide.
BUDGETS_MB = {"api": 300, "dispatcher": 300, "keyframes": 700, "clustering": 500, "exports": 300}
#: What must not be in an image, as names of modules.
MUST_LACK = {
    "api": ("torch", "av", "cv2", "sklearn", "numpy"),
    "dispatcher": ("torch", "av", "cv2", "sklearn", "numpy"),
    "keyframes": ("torch", "sklearn", "flask"),
    "clustering": ("torch", "av", "cv2", "flask"),
    "exports": ("torch", "av", "cv2", "sklearn", "numpy", "flask"),
    "embedding": ("av", "sklearn", "flask"),
}
#: Seconds after which a step is taken for stuck, and for a step in which a machine may have to fetch everything.
STEP_S = 180
BUILD_S = 900
#: A short lease, so that the work of a killed worker is taken over while one watches.
LEASE_S = 10

CLIPS = (
    "arm_wrestling.mp4", "basketball_01.mpg", "bikes.mp4", "bottles.mp4", "carphone_qcif.mp4", "cats_at_home.mp4",
    "cooking_advert_vp9.webm", "countdown_graphics.mp4", "dog_on_grass.mp4", "fades.mp4", "film_vfr.mp4",
    "motorbike_repair.mp4", "nasa.mp4", "orangutan.mp4", "phone_rotated_180.mp4", "road_cars.mp4", "sea.webm",
    "seals.mp4", "sports_day.mp4", "wildlife_montage.mp4",
)  # fmt: skip
NETWORKS = {
    "vit_tiny": {"library": "transformers", "weights": "vit_tiny", "pooling": "class_token"},
    "mobilenet_v2": {
        "library": "torchvision", "architecture": "mobilenet_v2", "weights": "mobilenet_v2.pth", "pooling": "mean",
        "preprocessing": {"resize_px": 256, "interpolation": "bilinear", "crop_px": 224,
                          "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    },
}  # fmt: skip


#: A bucket that compose.bucket.yml could be told.
ELSEWHERE = {"S3_BUCKET": "pictures/reelmap", "S3_REGION": "eu-central-1", "S3_ACCESS_KEY": "somebody"}


class Broken(Exception):
    """A promise that did not hold."""


def must(holds: object, promise: str) -> None:
    """Raise `Broken` with the promise unless it holds."""
    if not holds:
        raise Broken(promise)


@dataclass
class Compose:
    """One project of docker compose. environ: the variables of docker-compose.yml."""

    environ: dict[str, str]
    files: tuple[str, ...] = ("docker-compose.yml", "tests/compose/compose.yml")

    def __call__(self, *arguments: str, check: bool = True, files: Sequence[str] | None = None, **environ: str) -> str:
        """What the command wrote. Raises `Broken` with all it said when it failed."""
        named = [part for file in files or self.files for part in ("--file", file)]
        return docker(
            "compose", "--project-name", PROJECT, *named, *arguments, check=check, environ={**self.environ, **environ}
        )

    def containers(self, service: str, *, stopped: bool = False) -> list[str]:
        """Ids of a service's containers."""
        return self("ps", "--quiet", *(["--all"] if stopped else []), service).split()


def docker(*arguments: str, check: bool = True, environ: dict[str, str] | None = None) -> str:
    """What `docker ...` wrote to stdout. Raises `Broken` with all it said when it failed."""
    done = subprocess.run(
        ["docker", *arguments], cwd=ROOT, env={**os.environ, **(environ or {})}, capture_output=True, text=True
    )
    if check and done.returncode:
        said = (done.stdout + done.stderr)[-6000:]
        raise Broken(f"`docker {' '.join(arguments)}` ended with {done.returncode}:\n{said}")
    return done.stdout


@dataclass
class Trial:
    """What the steps share. keys: by project of Reelmap, so that no step profits from another one's videos."""

    compose: Compose
    urls: list[str]
    models: list[str]
    server: str
    upload: Path
    keys: dict[str, str] = field(default_factory=dict)
    expected: Any = None

    def client(self, project: str) -> Client:
        """A client in a project of its own; the key is made inside the API's container, as an administrator does."""
        if project not in self.keys:
            said = self.compose(
                "exec", "--no-TTY", "api", "reelmap", "keys", "add", project, "--role", "admin", "--project", project
            )
            self.keys[project] = said.split()[0]
        return Client(self.server, key=self.keys[project])

    def submit(self, client: Client) -> str:
        """A new job of all videos."""
        job = client.submit(self.urls, models=self.models, clustering={"n_clusters": 8, "seed": 3})
        return str(job["id"])

    def outcome(self, client: Client, job_id: str) -> Any:
        """Everything about a job that must not depend on what happened meanwhile; waits for its end."""
        *_, job = client.follow(job_id)
        sources = {
            source["url"]: (
                source["state"],
                source["error"],
                source["key_frames"],
                (source["video"] or {}).get("sha256"),
            )
            for source in client.sources(job_id)
        }
        clusterings = {
            clustering["model"]: (clustering["key_frames"], clustering["sizes"], clustering["inertia"])
            for clustering in client.clusterings(job_id)
        }
        return {"state": job["state"], "sources": sources, "clusterings": clusterings}


def configurations(trial: Trial) -> str:
    """Every file and profile that the documents name is one that compose understands."""
    base = "docker-compose.yml"
    named = {
        "debug": trial.compose("--profile", "debug", "config", "--services", files=[base]),
        "gpu": trial.compose("config", files=[base, "compose.gpu.yml"]),
        "s3": trial.compose("--profile", "s3", "config", files=[base, "compose.s3.yml"]),
        "bucket": trial.compose("config", files=[base, "compose.bucket.yml"], **ELSEWHERE),
    }
    must("REELMAP_S3_ENDPOINT: http://s3:7070" in named["s3"], "compose.s3.yml names the server of its profile")
    must("REELMAP_BLOBS_BUCKET: pictures/reelmap" in named["bucket"], "compose.bucket.yml takes any bucket")
    must("flower\n" in named["debug"], "the profile debug has Flower")
    must("capabilities:\n" in named["gpu"] and "gpu" in named["gpu"], "compose.gpu.yml reserves a GPU")
    return ", ".join(named)


def images(trial: Trial) -> str:
    """Every image is within its budget, has its packages, and lacks what others need."""
    services = json.loads(trial.compose("config", "--format", "json"))["services"]
    named = {service: services[service]["image"] for service in MUST_LACK}
    size_mb = {
        service: int(docker("image", "inspect", "--format", "{{.Size}}", name)) / MB for service, name in named.items()
    }
    over = [
        f"{service}: {size_mb[service]:.0f} of {most} MB"
        for service, most in BUDGETS_MB.items()
        if size_mb[service] > most
    ]
    must(not over, f"no image is above its budget ({'; '.join(over)})")
    for service, modules in MUST_LACK.items():
        look = f"from importlib.util import find_spec; print(*[m for m in {modules!r} if find_spec(m)])"
        found = docker("run", "--rm", "--network=none", "--entrypoint=python", named[service], "-c", look).split()
        must(not found, f"the image {service} does without {', '.join(found)}")
    return ", ".join(f"{service} {size:.0f} MB" for service, size in size_mb.items())


def confinement(trial: Trial) -> str:
    """No container of the project may do more than it must."""
    ids = trial.compose("ps", "--all", "--quiet").split()
    for container in json.loads(docker("inspect", *ids)):
        host, name = container["HostConfig"], container["Name"].lstrip("/")
        must(host["ReadonlyRootfs"], f"{name} has a read-only root")
        must(host["CapDrop"] == ["ALL"] and not host["CapAdd"], f"{name} has no capability")
        must("no-new-privileges:true" in host["SecurityOpt"], f"{name} cannot get new privileges")
        must(host["Memory"] > 0, f"{name} has a memory limit")
        must(container["Config"]["User"].partition(":")[0] not in ("", "0", "root"), f"{name} is not root")
        must(not host["Privileged"], f"{name} is not privileged")
        secret = [text for text in container["Config"]["Env"] if "PASSWORD=" in text or "SECRET=" in text]
        must(not secret, f"{name} has no secret in its environment")
    for service in ("postgres", "redis", "dispatcher", "embedding", "query", "clustering", "exports"):
        [container] = trial.compose.containers(service)
        [networks] = json.loads(docker("inspect", "--format", "[{{json .NetworkSettings.Networks}}]", container))
        inside = [json.loads(docker("network", "inspect", name))[0]["Internal"] for name in networks]
        must(inside == [True], f"{service} is in no network but one without a way out")
    away = "import urllib.request as u; u.urlopen('http://videos:8080/', timeout=3)"
    said = trial.compose(
        "exec", "--no-TTY", "embedding", "python", "-c", f"try: {away}\nexcept OSError: print('cut off')"
    )
    must(said.strip() == "cut off", "embedding cannot reach hosts of videos")
    walls = trial.compose("exec", "--no-TTY", "keyframes", "python", "-c", WALLS)
    must(walls.strip() == "", f"what reads videos is locked up inside its container ({walls.strip()})")
    return f"{len(ids)} containers"


WALLS = """
from services.keyframes.cell.sandbox import missing_walls
from shared.egress.tcp_fence import missing_fence
print(*missing_walls(), missing_fence() or "")
"""


def passwords(trial: Trial) -> str:
    """Who comes with a wrong password is told so at once, and does not wait for servers that are there."""
    migrate, dispatcher = "shared.migrate", "services.dispatcher.main"
    wrong = (
        (migrate, "REELMAP_DATABASE_PASSWORD", "redis_password"),
        (dispatcher, "REELMAP_DATABASE_PASSWORD", "redis_password"),
        (dispatcher, "REELMAP_REDIS_PASSWORD", "database_password"),
    )
    for module, setting, secret in wrong:
        environ = ["--env", f"{setting}_FILE=/run/secrets/{secret}"]
        try:
            trial.compose("run", "--rm", "--no-deps", "--no-TTY", *environ, "migrate", "python", "-m", module)
        except Broken as error:
            must(
                "ended with 2:" in str(error) and f"{setting}, or the file" in str(error), f"{module} says why: {error}"
            )
        else:
            raise Broken(f"{module} refuses a wrong {setting}")
    return f"{len(wrong)} wrong ones refused"


def calm(trial: Trial) -> str:
    """A job goes from URLs and an upload to its clusters, and a picture is found again."""
    client = trial.client("calm")
    job_id = trial.submit(client)
    trial.expected = trial.outcome(client, job_id)
    failed = {url: said for url, said in trial.expected["sources"].items() if said[0] != "succeeded"}
    must(trial.expected["state"] == "succeeded", f"an undisturbed job succeeds ({failed})")
    must(set(trial.expected["clusterings"]) == set(trial.models), "every model has its clustering")
    uploaded = client.submit([client.upload(trial.upload)["url"]], models=["hog_color"])
    *_, job = client.follow(uploaded["id"])
    must(job["state"] == "succeeded", "an upload is taken as well")
    clustering = next(iter(client.clusterings(job_id)))
    medoid = next(iter(client.clusters(clustering["id"])))["medoid"]
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "picture.jpg")
        picture.write_bytes(client.picture(medoid["image"]))
        found = client.search([job_id], picture=picture, model="hog_color", limit=1)
    must(found["results"][0]["id"] == medoid["id"], "a picture finds the key frame that it is")
    return f"{len(trial.urls)} videos, {len(trial.models)} models"


def storm(trial: Trial) -> str:
    """Workers are added, one is killed with its work, Redis is killed and comes back: the outcome is the same."""
    compose, client = trial.compose, trial.client("storm")
    compose("up", "--detach", "--wait", "--no-recreate", "--scale", "keyframes=3", "keyframes")
    must(len(compose.containers("keyframes")) == 3, "there are three keyframes workers")
    job_id = trial.submit(client)
    wait_until(lambda: _progress(client, job_id)["running"], "a video is being read")
    owner = _owner(trial)
    docker("kill", "--signal", "KILL", owner)
    compose("kill", "--signal", "KILL", "redis")
    time.sleep(2)
    compose("up", "--detach", "--wait", "--no-recreate", "redis")
    same(trial.outcome(client, job_id), trial.expected)
    again = [source for source in client.sources(job_id) if source["attempts"] > 1]
    must(again, "the killed worker had work, which another one did again")
    return f"{len(again)} videos were taken over"


def _owner(trial: Trial) -> str:
    """The container of a worker that reads a video right now; its name is the first part of the task's owner."""
    running = "SELECT split_part(owner, ':', 1) FROM tasks WHERE state = 'running' AND queue = 'keyframes' LIMIT 1"
    found: list[str] = []
    wait_until(lambda: found.extend(_sql(trial.compose, running).split()) or found, "a worker reads a video")
    return found[0]


def update(trial: Trial) -> str:
    """New images are built and brought up while work waits in the queue: the new ones do what the old ones sent."""
    compose, client = trial.compose, trial.client("update")
    compose("stop", "keyframes")
    before = {service: compose.containers(service, stopped=True) for service in MUST_LACK}
    job_id = trial.submit(client)
    sent = "SELECT count(*) FROM tasks WHERE state = 'queued' AND sent_at IS NOT NULL"
    wait_until(lambda: int(_sql(compose, sent)), "messages are in the queue")
    waiting = _progress(client, job_id)["queued"]
    must(waiting == len(trial.urls), "all videos wait, some of them with a message of the old dispatcher")
    compose.environ["REVISION"] = "of-the-update"
    compose("up", "--detach", "--build", "--wait")
    for service, old in before.items():
        new = compose.containers(service)
        must(new and not set(new) & set(old), f"{service} was replaced")
        label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
        must(docker("inspect", "--format", label, new[0]).strip() == "of-the-update", f"{service} runs the new image")
    same(trial.outcome(client, job_id), trial.expected)
    return f"{waiting} videos waited"


def _sql(compose: Compose, statement: str) -> str:
    return compose(
        "exec", "--no-TTY", "postgres", "psql", "--username=reelmap", "--no-align", "--tuples-only", "-c", statement
    )


def restart(trial: Trial) -> str:
    """Everything is stopped in good order, taken away, and goes on where it stood."""
    compose, client = trial.compose, trial.client("restart")
    job_id = trial.submit(client)
    wait_until(lambda: _progress(client, job_id)["running"], "a video is being read")
    began_at = time.monotonic()
    compose("down")
    stopped_s = time.monotonic() - began_at
    compose("up", "--detach", "--wait")
    same(trial.outcome(client, job_id), trial.expected)
    again = [source["attempts"] for source in client.sources(job_id) if source["attempts"] > 2]
    must(not again, "what was handed back was not tried over and over")
    return f"stopped in {stopped_s:.0f} s"


def flower(trial: Trial) -> str:
    """Flower shows the queues to who has the password, and nobody else."""
    compose = trial.compose
    compose("--profile", "debug", "up", "--detach", "--build", "--wait", "flower")
    page = f"http://127.0.0.1:{compose.environ['FLOWER_PORT']}/"
    password = Path(compose.environ["SECRETS"], "flower_password").read_text()

    def status(auth: tuple[str, str] | None) -> int:
        try:
            return requests.get(page, auth=auth, timeout=5).status_code
        except requests.ConnectionError:
            return 0

    wait_until(lambda: status(("reelmap", password)) == 200, "Flower answers who has the password")
    must(status(None) == 401, "Flower answers nobody without the password")
    must(status(("reelmap", "wrong")) == 401, "Flower answers nobody with a wrong password")
    return "401 without the password, 200 with it"


def _progress(client: Client, job_id: str) -> dict[str, int]:
    progress: dict[str, int] = client.job(job_id)["progress"]["keyframes"]
    must(progress["queued"] + progress["running"], "the job lasts long enough to be disturbed")
    return progress


def wait_until(condition: Callable[[], object], what: str, *, for_s: float = 60) -> None:
    """Return once the condition holds. Raises `Broken` when it does not in time."""
    until = time.monotonic() + for_s
    while not condition():
        must(time.monotonic() < until, f"within {for_s:.0f} s, {what}")
        time.sleep(0.1)


def same(got: Any, expected: Any) -> None:
    """Raise `Broken` with what differs."""
    for part, wanted in expected.items():
        if isinstance(wanted, dict):
            differs = {
                name: (got[part].get(name), value) for name, value in wanted.items() if got[part].get(name) != value
            }
            must(not differs and len(got[part]) == len(wanted), f"{part} are as in the undisturbed run ({differs})")
        else:
            must(got[part] == wanted, f"{part} is {wanted}, not {got[part]}")


STEPS: tuple[Callable[[Trial], str], ...] = (
    configurations, images, confinement, passwords, calm, storm, update, restart, flower
)  # fmt: skip


@contextmanager
def running(trial: Trial, logs: Path) -> Iterator[None]:
    """The project, built and up; afterwards its logs, and nothing else of it, nor of a run that was killed before."""
    compose = trial.compose
    try:
        with step("sweep"):
            take_away(compose)
        with step("build", BUILD_S):
            compose("--profile", "debug", "build")
        with step("up", BUILD_S):
            compose("up", "--detach", "--wait")
        yield
    finally:
        try:
            with step("logs"):
                logs.parent.mkdir(parents=True, exist_ok=True)
                logs.write_text(compose("ps", "--all", check=False) + compose("logs", "--no-color", "-t", check=False))
        finally:
            with step("down"):
                take_away(compose)


def take_away(compose: Compose) -> None:
    """Everything of the project goes, its volumes too, from this run or one that was killed."""
    compose("--profile", "debug", "down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)
    left = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}")
    left += docker("volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}")
    must(not left, "nothing is left behind")


@contextmanager
def step(name: str, most_s: int = STEP_S) -> Iterator[list[str]]:
    """Prints how long a step took, with what is appended to the list. Raises `Broken` when it takes too long."""

    def stuck(*_: object) -> None:
        raise Broken(f"{name} is done within {most_s} s")

    began_at = time.monotonic()
    says: list[str] = []
    signal.signal(signal.SIGALRM, stuck)
    signal.alarm(most_s)
    try:
        yield says
    finally:
        signal.alarm(0)
    click.echo(f"{name:15} {time.monotonic() - began_at:6.1f} s  {'; '.join(says)}")


def prepare(folder: Path, torch: str) -> Trial:
    """Secrets, settings and videos in `folder`, or the real ones."""
    settings = {"REELMAP_LEASE_S": LEASE_S, "REELMAP_HEARTBEAT_S": 3}
    with listen("127.0.0.1", 0) as api, listen("127.0.0.1", 0) as flower:
        ports = {"PORT": str(port_of(api)), "FLOWER_PORT": str(port_of(flower))}
    environ = {
        "SECRETS": str(folder / "secrets"), "SETTINGS": str(folder / "settings.env"), "TORCH": torch, **ports,
        "REVISION": "of-the-test", "WEIGHTS_MODELS": "hog_color",
    }  # fmt: skip
    if data := os.environ.get("REELMAP_DATA_DIR"):
        videos, names, models = Path(data, "videos"), list(CLIPS), ["hog_color", *NETWORKS]
        environ |= {"WEIGHTS": str(Path(data, "weights")), "WEIGHTS_MODELS": " ".join(models)}
        settings["REELMAP_OWN_MODELS"] = json.dumps(NETWORKS)
    else:
        videos, models = folder / "videos", ["hog_color"]
        names = [path.name for path in make_corpus(videos)]
    for path in (folder, videos):
        path.chmod(path.stat().st_mode | 0o055)  # for the users of the containers
    environ["VIDEOS"] = str(videos)
    if at_hand := docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "pgvector/pgvector").split():
        environ["REELMAP_POSTGRES_IMAGE"] = at_hand[0]
    (folder / "settings.env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    subprocess.run(["make", "--silent", "secrets", f"SECRETS={environ['SECRETS']}"], cwd=ROOT, check=True)
    return Trial(
        compose=Compose(environ),
        urls=[f"http://videos:8080/{name}" for name in names],
        models=models,
        server=f"http://127.0.0.1:{environ['PORT']}",
        upload=videos / names[0],
    )


def stop(*_: object) -> None:
    """End, which takes everything down first; `make` sends the signal on, so that it may come twice."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    sys.exit("Asked to stop.")


@click.command()
@click.option("--torch", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Which wheels.")
@click.option(
    "--logs", type=click.Path(path_type=Path), default=ROOT / "build" / "compose.log", help="Where the logs go."
)
def main(torch: str, logs: Path) -> None:
    """Run Reelmap with Docker compose, disturb it, and see that nothing is lost."""
    began_at = time.monotonic()
    signal.signal(signal.SIGTERM, stop)
    try:
        with tempfile.TemporaryDirectory() as folder:
            trial = prepare(Path(folder), torch)
            with running(trial, logs):
                for each in STEPS:
                    with step(each.__name__) as says:
                        says.append(each(trial))
    except Broken as error:
        first = error.__context__  # where taking everything down went wrong as well
        before = f"{type(first).__name__}: {first}\n" if first else ""
        sys.exit(f"{before}Broken: {error}\nThe logs of all containers are in {logs}.")
    click.echo(f"Everything held; took {time.monotonic() - began_at:.0f} s.")


if __name__ == "__main__":
    main()
