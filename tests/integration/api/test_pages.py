"""The pages, as a browser asks for them."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from shared import tasks
from shared.errors import ErrorKind

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, answer: TestResponse) -> None:
        super().__init__()
        self.status = answer.status_code
        self.html = answer.text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        assert answer.mimetype == "text/html", answer.text
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, attribute: str) -> list[str]:
        return [found for name, attrs in self.tags if name == tag and (found := attrs.get(attribute)) is not None]


@pytest.fixture
def browse(client: FlaskClient):
    """Opens a page."""
    return lambda path: Page(client.get(path, headers=BROWSER))


@pytest.fixture
def send(client: FlaskClient):
    """Submits a form. Returns the answer."""
    return lambda path, **fields: client.post(path, data=fields, headers=BROWSER)


@pytest.fixture
def finished(submit, workers):
    """A job of two videos that succeeded."""
    job = submit(2, name="Two clips")
    workers.finish(job["id"])
    return job


def clustering_of(client: FlaskClient, job: dict) -> dict:
    return client.get(f"/api/v1/jobs/{job['id']}/clusterings").json["clusterings"][0]


def clusters_of(client: FlaskClient, clustering: dict) -> list[dict]:
    return client.get(f"/api/v1/clusterings/{clustering['id']}/clusters").json["clusters"]


# --- Jobs ---------------------------------------------------------------------------------------------------------


def test_without_jobs_the_first_page_says_what_to_do(browse):
    page = browse("/")
    assert page.status == 200
    assert "Nothing has been submitted yet" in page.text


def test_jobs_are_listed_with_state_and_counts(browse, finished, submit):
    submit(1)
    page = browse("/")
    assert "Two clips succeeded" in page.text
    assert "2 sources 200 frames read → 6 key frames 97 % left out" in page.text
    assert "Job of" in page.text
    assert f"/jobs/{finished['id']}" in page.all("a", "href")


def test_a_model_that_cannot_work_is_offered_with_the_reason_and_cannot_be_chosen(browse):
    page = browse("/")
    boxes = {attrs["value"]: attrs for tag, attrs in page.tags if tag == "input" and attrs.get("name") == "models"}
    assert "disabled" in boxes["vit_mae_base"]
    assert "disabled" not in boxes["hog_color"]
    assert "The weights of vit_mae_base are missing" in page.text


def test_a_form_submits_urls_and_files_as_one_job(client, send):
    answer = send(
        "/jobs",
        videos="https://example.org/a.mp4\n\n  https://example.org/b.mp4  \n",
        files=(io.BytesIO(b"film"), "holiday.mp4"),
        name="Mixed",
        models="hog_color",
        n_clusters="7",
    )
    assert answer.status_code == 303
    job_id = answer.location.rsplit("/", 1)[-1]
    job = client.get(f"/api/v1/jobs/{job_id}").json
    assert (job["name"], job["models"], job["clustering"]["n_clusters"]) == ("Mixed", ["hog_color"], 7)
    sources = client.get(f"/api/v1/jobs/{job_id}/sources").json["sources"]
    assert [source["title"] or source["url"] for source in sources] == [
        "https://example.org/a.mp4",
        "https://example.org/b.mp4",
        "holiday.mp4",
    ]


def test_a_form_takes_as_many_urls_as_the_api(client, send):
    urls = [
        f"https://example.org/{number:05d}/a-video-with-a-rather-long-name-as-they-are.mp4" for number in range(10_000)
    ]
    answer = send("/jobs", videos="\n".join(urls), models="hog_color")
    assert answer.status_code == 303
    assert client.get(f"/api/v1{answer.location}").json["sources"] == 10_000


def test_a_refused_form_says_why_and_keeps_what_was_typed(send):
    answer = send("/jobs", videos="https://example.org/a.mp4\nnot a url", name="Keep me", models="hog_color")
    page = Page(answer)
    assert page.status == 422
    assert "not a url" in page.text
    assert "Keep me" in page.all("input", "value")
    assert "https://example.org/a.mp4" in page.text


@pytest.mark.parametrize("n_clusters", ["0", "-3", "many"])
def test_an_impossible_number_of_clusters_is_refused_by_name(send, n_clusters):
    page = Page(send("/jobs", videos="https://example.org/a.mp4", models="hog_color", n_clusters=n_clusters))
    assert page.status == 422
    assert "Clusters (k) is" in page.text
    assert "n_clusters" not in page.text


def test_a_file_that_is_too_large_is_refused_on_a_page(send):
    page = Page(send("/jobs", files=(io.BytesIO(b"x" * 200_000), "long.mp4"), models="hog_color"))
    assert page.status == 413
    assert "larger" in page.text


def test_the_list_of_jobs_is_paged(browse, submit):
    for number in range(3):
        submit(1, name=f"Number {number}")
    first = browse("/?limit=2")
    assert "Number 2" in first.text and "Number 0" not in first.text
    (more,) = [href for href in first.all("a", "href") if "cursor=" in href]
    assert "Number 0" in browse(more).text


# --- One job ------------------------------------------------------------------------------------------------------


def test_a_running_job_is_polled_and_a_final_one_is_not(browse, submit, workers):
    job = submit(1)
    page = browse(f"/jobs/{job['id']}")
    assert page.all("main", "data-poll") == [f"/api/v1/jobs/{job['id']}"]
    assert page.all("main", "data-refresh") == [f"/jobs/{job['id']}"]
    workers.finish(job["id"])
    assert browse(f"/jobs/{job['id']}").all("main", "data-poll") == []


def test_every_failed_source_is_shown_with_its_reason_and_its_attempts(browse, submit, workers, send, client):
    job = submit(["https://example.org/gone.mp4", "https://example.org/there.mp4"])
    workers.fail(job["id"], ErrorKind.NOT_FOUND, "example.org has no gone.mp4 any more.")
    workers.finish(job["id"])
    page = browse(f"/jobs/{job['id']}")
    assert "partly failed" in page.text
    assert "example.org has no gone.mp4 any more. (not found) 1" in page.text
    assert "Retry what failed" in page.text
    assert f"/jobs/{job['id']}/retry" in page.all("form", "action")

    assert send(f"/jobs/{job['id']}/retry").status_code == 303
    assert client.get(f"/api/v1/jobs/{job['id']}").json["state"] in ("queued", "running")
    assert "Retry what failed" not in browse(f"/jobs/{job['id']}").text


def test_what_may_be_wrong_with_the_pictures_of_a_video_stands_beside_it(browse, finished, client, database):
    note = "The video says that its colours are coded in a way that cannot be read here."
    assert [source["video"]["notes"] for source in sources_of(client, finished)] == [[]] * finished["sources"]
    with database.transaction() as connection:
        connection.execute(
            text("UPDATE extractions SET facts = facts || CAST(:notes AS jsonb)"),
            {"notes": json.dumps({"notes": [note]})},
        )

    assert note in browse(f"/jobs/{finished['id']}").text
    assert all(source["video"]["notes"] == [note] for source in sources_of(client, finished))


def sources_of(client, job):
    return client.get(f"/api/v1/jobs/{job['id']}/sources").json["sources"]


def test_a_job_whose_videos_are_known_already_has_nothing_to_embed(browse, submit, workers, finished):
    job = submit(2)
    assert "Embedding not yet" in browse(f"/jobs/{job['id']}").text
    workers.extract(job["id"], same_video=True)
    workers.cluster(job["id"])
    assert "Embedding nothing to do" in browse(f"/jobs/{job['id']}").text


def test_a_retry_with_nothing_to_retry_says_so_on_the_jobs_page(send, finished):
    page = Page(send(f"/jobs/{finished['id']}/retry"))
    assert page.status == 409
    assert "nothing to try again" in page.text
    assert "Two clips" in page.text


def test_sources_are_shown_with_what_came_of_them(browse, finished):
    page = browse(f"/jobs/{finished['id']}")
    assert "0.mp4 https://example.org/0.mp4 succeeded 0:10.0 100 3 97 %" in page.text


def test_sources_can_be_filtered_and_paged(browse, submit, workers):
    job = submit(3)
    workers.fail(job["id"], ErrorKind.NOT_FOUND, "It is gone.")
    shown, path = [], f"/jobs/{job['id']}?state=queued&limit=1"
    while path:
        page = browse(path)
        shown += re.findall(r"\d\.mp4 https://example\.org/(\d)\.mp4 queued", page.text)
        path = next((href for href in page.all("a", "href") if "cursor=" in href), None)
        assert path is None or "state=queued" in path
    assert len(shown) == len(set(shown)) == 2


def test_a_job_can_be_cancelled_and_gone_on_with(browse, submit, send):
    job = submit(1)
    assert send(f"/jobs/{job['id']}/cancel").status_code == 303
    page = browse(f"/jobs/{job['id']}")
    assert "cancelled" in page.text and "Go on with it" in page.text
    refused = Page(send(f"/jobs/{job['id']}/sources", videos="https://example.org/more.mp4"))
    assert refused.status == 409
    assert "cancelled" in refused.text


def test_videos_can_be_added(client, finished, send):
    answer = send(f"/jobs/{finished['id']}/sources", videos="https://example.org/more.mp4")
    assert answer.status_code == 303
    assert client.get(f"/api/v1/jobs/{finished['id']}").json["sources"] == 3


def test_adding_nothing_is_refused(finished, send):
    for page, said in (("sources", "Video URLs: at least 1 is needed"), ("models", "Models: at least 1 is needed")):
        answer = send(f"/jobs/{finished['id']}/{page}", videos=" \n")
        assert answer.status_code == 422
        assert said in Page(answer).text


def test_clustering_again_leads_to_the_new_clustering(browse, client, finished, send):
    answer = send(
        f"/jobs/{finished['id']}/clusterings",
        model="hog_color",
        algorithm="minibatch_kmeans",
        seed="5",
        scaling="l2",
        **{"minibatch_kmeans.n_clusters": "3", "kmeans.n_clusters": "9", "hdbscan.min_cluster_size": "no number"},
    )
    assert answer.status_code == 303
    page = browse(answer.location)
    assert "queued" in page.text
    clustering = clustering_of(client, finished)
    assert page.all("main", "data-poll") == [clustering["links"]["self"]]
    assert clustering["settings"] | {"n_clusters": 3, "seed": 5, "scaling": "l2"} == clustering["settings"]
    # It never changes the job's state, and the job's page waits for it.
    assert browse(f"/jobs/{finished['id']}").all("main", "data-poll") == [clustering["links"]["self"]]


def retried(send, workers, job: dict, *, found: bool) -> None:
    """Try the job's failed source again, which then is there or is still not."""
    send(f"/jobs/{job['id']}/retry")
    if found:
        workers.finish(job["id"])
    else:
        workers.fail(job["id"], ErrorKind.NOT_FOUND, "It is gone.")


def test_clusterings_of_earlier_rounds_are_folded_away_unless_they_have_a_name(browse, client, submit, workers, send):
    job = submit(2)
    workers.fail(job["id"], ErrorKind.NOT_FOUND, "It is gone.")
    workers.finish(job["id"])
    retried(send, workers, job, found=False)
    page = browse(f"/jobs/{job['id']}")
    assert "of earlier rounds" not in page.text and "round 2" in page.text
    retried(send, workers, job, found=True)
    page = browse(f"/jobs/{job['id']}")
    assert "1 clustering of earlier rounds" in page.text and "round 3" in page.text
    newer, older = client.get(f"/api/v1/jobs/{job['id']}/clusterings").json["clusterings"]
    assert (newer["round"], newer["superseded"]) == (3, False)
    assert (older["round"], older["superseded"]) == (2, True)
    assert older["links"]["page"] not in browse(newer["links"]["page"]).all("a", "href")
    assert "A later round" in browse(older["links"]["page"]).text

    send(f"{older['links']['page']}/name", name="as it was")
    page = browse(f"/jobs/{job['id']}")
    assert "of earlier rounds" not in page.text and "as it was" in page.text
    assert older["links"]["page"] in browse(newer["links"]["page"]).all("a", "href")


def test_a_clustering_is_named_by_a_form(browse, client, finished, send):
    clustering = clustering_of(client, finished)
    answer = send(f"{clustering['links']['page']}/name", name=f" By look{HOSTILE} ")
    assert (answer.status_code, answer.location) == (303, clustering["links"]["page"])
    for path in (clustering["links"]["page"], f"/jobs/{finished['id']}"):
        assert f"By look{HOSTILE}" in browse(path).text
    refused = Page(send(f"{clustering['links']['page']}/name", name="x" * 201))
    assert refused.status == 422
    assert "at most 200 characters" in refused.text


def test_deleting_a_clustering_asks_first_and_leads_to_the_job(browse, client, finished, send):
    clustering = clustering_of(client, finished)
    assert "for good" in browse(clustering["links"]["page"]).text
    answer = send(f"{clustering['links']['page']}/delete")
    assert (answer.status_code, answer.location) == (303, f"/jobs/{finished['id']}#clusterings")
    assert browse(clustering["links"]["page"]).status == 404
    assert "Two clips: succeeded" in browse(f"/jobs/{finished['id']}").text


def test_a_clustering_that_is_being_made_is_not_deleted(browse, client, submit, workers, send):
    job = submit(1)
    workers.extract(job["id"])
    workers.embed(job["id"])
    clustering = clustering_of(client, job)
    assert "Delete this clustering" not in browse(clustering["links"]["page"]).text
    page = Page(send(f"{clustering['links']['page']}/delete"))
    assert page.status == 409
    assert "cancel it first" in page.text


def test_a_refused_clustering_leaves_its_form_open(finished, send):
    page = Page(
        send(f"/jobs/{finished['id']}/clusterings", algorithm="hdbscan", seed="0", **{"hdbscan.min_cluster_size": "1"})
    )
    assert page.status == 422
    assert "Least size of a cluster is 1; it takes a whole number from 2" in page.text
    assert "min_cluster_size" not in page.text
    assert "1" in [attrs.get("value") for tag, attrs in page.tags if attrs.get("name") == "hdbscan.min_cluster_size"]
    assert ("details", {"class": "panel", "open": None}) in page.tags


def test_deleting_asks_first_and_then_deletes(browse, finished, send):
    page = browse(f"/jobs/{finished['id']}")
    assert "It cannot be undone" in page.text
    answer = send(f"/jobs/{finished['id']}/delete")
    assert (answer.status_code, answer.location) == (303, "/")
    assert browse(f"/jobs/{finished['id']}").status == 404


# --- Results ------------------------------------------------------------------------------------------------------


def test_a_clustering_is_a_gallery(browse, client, finished):
    clustering = clustering_of(client, finished)
    page = browse(clustering["links"]["page"])
    assert "2 clusters of 6 key frames" in page.text
    assert "Silhouette 0.500 −1 to 1" in page.text
    assert "a note" in page.text
    for cluster in clusters_of(client, clustering):
        assert cluster["links"]["page"] in page.all("a", "href")
        assert f"Cluster {cluster['label']}" in page.text
        # The browser takes the small picture or the large one, by how large it draws it.
        assert cluster["medoid"]["small_image"] in page.all("img", "src")
        assert f"{cluster['medoid']['image']} 64w" in " ".join(page.all("img", "srcset"))
    assert "in 1 of 2 videos" in page.text


def test_pictures_have_sizes_words_and_load_late(browse, client, finished):
    page = browse(clustering_of(client, finished)["links"]["page"])
    pictures = [attrs for tag, attrs in page.tags if tag == "img" and "/key-frames/" in (attrs["src"] or "")]
    assert pictures
    for picture in pictures:
        assert (picture["width"], picture["height"], picture["loading"]) == ("64", "64", "lazy")
        assert re.fullmatch(r"key frame at \d:\d\d\.\d of \d\.mp4", picture["alt"] or "")


def test_a_cluster_is_shown_in_full_page_by_page(browse, client, finished):
    cluster = clusters_of(client, clustering_of(client, finished))[0]
    page = browse(cluster["links"]["page"])
    assert page.text.count("0.100") == 2 and page.text.count("0.200") == 1
    assert "Videos 1 of 2" in page.text


def test_a_key_frame_is_shown_with_where_it_is_from_and_what_is_like_it(browse, client, finished):
    cluster = clusters_of(client, clustering_of(client, finished))[0]
    frame = cluster["medoid"]
    page = browse(f"/key-frames/{frame['id']}")
    assert frame["image"] in page.all("img", "src")
    assert frame["sources"][0]["link"] in page.all("a", "href")
    assert "0:00.5 – 0:00.7" in page.text or not frame["repeats"]
    assert cluster["links"]["page"] in page.all("a", "href")
    assert len([href for href in page.all("a", "href") if href.startswith("/key-frames/")]) == 5 + 1  # the model's own
    assert f"/videos/{frame['video_id']}" in page.all("a", "href")


def test_where_somebody_comes_from_travels_along(browse, client, submit, workers):
    job, other = submit(2, models=["tiny", "hog_color"]), submit(["https://example.org/other.mp4"])
    for each in (job, other):
        workers.finish(each["id"])
    clustering = next(
        each
        for each in client.get(f"/api/v1/jobs/{job['id']}/clusterings").json["clusterings"]
        if each["model"] == "hog_color"
    )
    [cluster, _] = clusters_of(client, clustering)
    came_from = f"job={job['id']}&model=hog_color"
    for path in (clustering["links"]["page"], cluster["links"]["page"]):
        shown = [href for href in browse(path).all("a", "href") if href.startswith("/key-frames/")]
        assert shown and all(href.endswith("?" + came_from) for href in shown)
    page = browse(shown[0])
    alike = {href for href in page.all("a", "href") if re.fullmatch(r"/key-frames/.*" + came_from, href)}
    assert len(alike - {shown[0]}) == 5, "of this job only"
    # Without a model it is the job's first, which is not the alphabet's.
    assert f"{shown[0].split('?')[0]}?job={job['id']}&model=tiny" in page.all("a", "href")
    bare = browse(f"{shown[0].split('?')[0]}?job={job['id']}")
    assert {href.rpartition("model=")[2] for href in bare.all("a", "href") if "model=" in href} >= {"tiny"}
    everywhere = browse(f"{shown[0].split('?')[0]}?model=hog_color")
    found = {href for href in everywhere.all("a", "href") if href.startswith("/key-frames/")}
    assert len(found) >= 8


def test_a_key_frame_of_an_unknown_job_is_refused(browse, client, finished):
    frame = clusters_of(client, clustering_of(client, finished))[0]["medoid"]
    assert browse(f"/key-frames/{frame['id']}?job=00000000-0000-4000-8000-00000000dead").status == 422
    assert browse(f"/key-frames/{frame['id']}?job=nonsense").status == 422
    assert browse(f"/key-frames/{frame['id']}?model=magic").status == 422


def test_the_key_frames_of_a_job_and_of_a_video_are_listed_by_time(browse, client, finished):
    page = browse(f"/jobs/{finished['id']}")
    assert f"/jobs/{finished['id']}/key-frames" in page.all("a", "href")
    [first, second] = client.get(f"/api/v1/jobs/{finished['id']}/sources").json["sources"]
    assert {first["links"]["page"], second["links"]["page"]} <= set(page.all("a", "href"))
    page = browse(f"/jobs/{finished['id']}/key-frames")
    assert "0.mp4 0:00.0 0:01.0 0:02.0 1.mp4 0:00.0 0:01.0 0:02.0" in page.text
    page = browse(first["links"]["page"])
    assert "3 key frames" in page.text and "0:00.0 0:01.0 0:02.0" in page.text
    assert f"/jobs/{finished['id']}" in page.all("a", "href")


def test_pagers_say_where_one_is(browse, submit, workers, monkeypatch):
    monkeypatch.setattr("services.api.pages.key_frames.KEY_FRAMES_A_PAGE", 4)
    job = submit(3)
    workers.finish(job["id"])
    path, positions = f"/jobs/{job['id']}/key-frames", []
    while path:
        page = browse(path)
        positions += re.findall(r"\d+–\d+ of \d+", page.text)
        path = next((href for href in page.all("a", "href") if "cursor=" in href), None)
    assert positions == ["1–4 of 9", "5–8 of 9", "9–9 of 9"]
    assert "1–2 " in browse("/?limit=2&after=nonsense").text or browse("/?after=99").status == 200


def test_a_key_frame_in_noise_says_so(browse, client, submit, workers):
    job = submit(1)
    workers.extract(job["id"])
    workers.embed(job["id"])
    workers.cluster(job["id"], n_clusters=1, noise=1)
    with workers.service.database.transaction() as connection:
        key_frame_id = connection.execute(text("SELECT key_frame_id FROM assignments WHERE label = -1")).scalar_one()
    page = browse(f"/key-frames/{key_frame_id}")
    assert "Noise , 1 key frame hog_color, kmeans, 1 cluster" in page.text
    assert clustering_of(client, job)["links"]["noise_page"] in page.all("a", "href")


def test_a_key_frame_without_vectors_says_so(browse, client, submit, workers):
    job = submit(1)
    workers.extract(job["id"])
    with workers.service.database.transaction() as connection:
        key_frame_id = connection.execute(text("SELECT id FROM key_frames LIMIT 1")).scalar_one()
    assert "has not been embedded yet" in browse(f"/key-frames/{key_frame_id}").text


def test_every_link_of_every_page_leads_somewhere(browse, client, finished):
    to_visit, visited = ["/"], set()
    while to_visit:
        path = to_visit.pop()
        if path in visited:
            continue
        visited.add(path)
        with client.get(path, headers=BROWSER) as answer:
            assert answer.status_code == 200, path
            if answer.mimetype != "text/html" or path.startswith("/api/"):
                continue
            page = Page(answer)
        found = [*page.all("a", "href"), *page.all("link", "href"), *page.all("img", "src"), *page.all("script", "src")]
        to_visit += [link.split("#")[0] for link in found if link.startswith("/")]
    assert len([path for path in visited if path.startswith("/key-frames/")]) >= 6


@pytest.fixture
def noisy(submit, workers) -> dict:
    """A job of two videos whose clustering has 4 key frames in noise and 2 in a cluster."""
    job = submit(2)
    workers.extract(job["id"])
    workers.embed(job["id"])
    workers.cluster(job["id"], n_clusters=1, noise=4)
    return job


def test_noise_is_the_last_card_of_the_gallery_and_opens(browse, client, noisy):
    clustering = clustering_of(client, noisy)
    page = browse(clustering["links"]["page"])
    assert "1 cluster of 6 key frames" in page.text
    assert "Noise 4 key frames" in page.text
    assert page.text.index("Cluster 0") < page.text.rindex("Noise 4 key frames in no cluster in 2 of 2 videos")
    page = browse(clustering["links"]["noise_page"])
    assert "Noise" in page.text and "Every key frame that is in no cluster, video by video" in page.text
    shown = [href for href in page.all("a", "href") if href.startswith("/key-frames/")]
    assert len(set(shown)) == 4


# --- Search -------------------------------------------------------------------------------------------------------


def test_a_picture_leads_to_a_page_that_waits_for_its_vector(browse, finished, send, jpeg):
    answer = send("/search", picture=(io.BytesIO(jpeg), "red.jpg"), model="hog_color", job=finished["id"])
    assert answer.status_code == 303
    page = browse(answer.location)
    assert "being embedded by hog_color" in page.text
    (polled,) = page.all("main", "data-poll")
    assert polled.startswith("/api/v1/searches/") and finished["id"] in polled
    assert "refresh" in page.all("meta", "http-equiv")


def test_the_answer_of_a_search_shows_the_nearest_key_frames(browse, finished, send, jpeg, workers):
    location = send("/search", picture=(io.BytesIO(jpeg), "red.jpg"), model="hog_color").location
    with workers.service.database.transaction() as connection:
        (claim,) = workers.claim(connection, "t.queue = 'query'")
        assert tasks.succeed(connection, claim)
        connection.execute(text("UPDATE queries SET vector = '[1, 0, 0]'"))
    page = browse(location)
    assert page.all("main", "data-poll") == []
    assert len([href for href in page.all("a", "href") if href.startswith("/key-frames/")]) == 6


def embedded(workers) -> None:
    """Give every waiting query picture a vector."""
    with workers.service.database.transaction() as connection:
        for claim in workers.claim(connection, "t.queue = 'query'"):
            assert tasks.succeed(connection, claim)
            connection.execute(text("UPDATE queries SET vector = '[1, 0, 0]' WHERE vector IS NULL"))


def test_a_picture_is_shown_and_kept_for_the_next_search(browse, client, submit, send, jpeg, workers):
    job = submit(2, models=["hog_color", "tiny"])
    workers.finish(job["id"])
    location = send("/search", picture=(io.BytesIO(jpeg), "red.jpg"), model="hog_color", job=job["id"]).location
    page = browse(location)
    query_id = location.split("/")[2].split("?")[0]
    picture = f"/api/v1/searches/{query_id}/picture"
    assert picture in page.all("img", "src"), "also while it is waited for"
    embedded(workers)
    assert client.get(picture).data == jpeg
    page = browse(location)
    hidden = [attrs for tag, attrs in page.tags if tag == "input" and attrs.get("type") == "hidden"]
    assert ("query", query_id) in [(each["name"], each["value"]) for each in hidden]

    same = send("/search", query=query_id, model="hog_color", job="")
    assert (same.status_code, same.location) == (303, f"/searches/{query_id}")
    other = send("/search", query=query_id, model="tiny", job=job["id"])
    assert other.status_code == 303 and query_id not in other.location and job["id"] in other.location
    assert "being embedded by tiny" in browse(other.location).text
    assert send("/search", query=query_id, model="tiny", job=job["id"]).location == other.location
    refused = Page(send("/search", query=query_id, model="magic"))
    assert refused.status == 422 and picture in refused.all("img", "src")


def test_a_key_frame_is_searched_with_page_by_page(browse, client, finished, send, monkeypatch):
    monkeypatch.setattr("services.api.pages.search.RESULTS_SHOWN", 2)
    frame = clusters_of(client, clustering_of(client, finished))[0]["medoid"]
    location = send("/search", key_frame=frame["id"], model="hog_color", job=finished["id"]).location
    seen, path = [], location
    while path:
        page = browse(path)
        assert frame["small_image"] in page.all("img", "src")
        seen += [href for href in page.all("a", "href") if re.match(r"/key-frames/.*\?job=.*&model=hog_color", href)]
        path = next((href for href in page.all("a", "href") if "cursor=" in href), None)
    assert len(seen) == len(set(seen)) == 5
    assert "5–5" in page.text
    assert send("/search", key_frame="nonsense", model="hog_color").status_code == 422
    assert send("/search", key_frame="00000000-0000-4000-8000-00000000dead").status_code in (404, 422)


def test_what_is_no_picture_is_refused_on_the_form(finished, send):
    page = Page(send("/search", picture=(io.BytesIO(b"text"), "notes.txt"), model="hog_color"))
    assert page.status == 422
    assert "not a JPEG, PNG or WebP" in page.text
    assert Page(send("/search", model="hog_color")).status == 422


# --- Names that attack, and pages that are not there ----------------------------------------------------------------


def test_hostile_names_are_shown_and_do_nothing(browse, client, submit, workers):
    upload = client.post(f"/api/v1/uploads?file_name={HOSTILE.replace('/', '')}", data=b"film").json
    job = submit([upload["url"]], name=HOSTILE)
    workers.finish(job["id"])
    clustering = clustering_of(client, job)
    cluster = clusters_of(client, clustering)[0]
    pages = ["/", f"/jobs/{job['id']}", clustering["links"]["page"], cluster["links"]["page"], "/search"]
    frame = cluster["medoid"]
    pages += [f"/jobs/{job['id']}/key-frames", f"/videos/{frame['video_id']}", f"/search?key_frame={frame['id']}"]
    for path in [*pages, f"/key-frames/{frame['id']}"]:
        page = browse(path)
        assert "alert(1)" in page.text or "alert(1)" in " ".join(page.all("img", "alt"))
        scripts = [attrs for tag, attrs in page.tags if tag == "script"]
        assert scripts == [{"type": "module", "src": f"/static/{name}.js"} for name in ("reelmap", "forms")]
        assert "x" not in page.all("img", "src")


def test_no_page_needs_inline_scripts_or_styles(browse, client, finished):
    clustering = clustering_of(client, finished)
    cluster = clusters_of(client, clustering)[0]
    pages = ["/", f"/jobs/{finished['id']}", clustering["links"]["page"], cluster["links"]["page"], "/search"]
    frame = cluster["medoid"]
    pages += [f"/jobs/{finished['id']}/key-frames", f"/videos/{frame['video_id']}", f"/search?key_frame={frame['id']}"]
    for path in [*pages, f"/key-frames/{frame['id']}", "/nowhere"]:
        page = browse(path)
        assert "style" not in {tag for tag, _ in page.tags}
        for _, attrs in page.tags:
            assert not [name for name in attrs if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("noun", ["jobs", "clusterings", "clusters", "key-frames", "searches"])
def test_what_is_not_there_is_a_page_for_browsers(browse, noun):
    page = browse(f"/{noun}/00000000-0000-0000-0000-00000000dead")
    assert page.status == 404
    assert "00000000-0000-0000-0000-00000000dead" in page.text


def test_an_unknown_address_is_a_page_for_browsers_and_a_problem_document_for_programs(browse, client):
    assert browse("/nowhere").status == 404
    for answer in (client.get("/nowhere"), client.get("/api/v1/nowhere", headers=BROWSER)):
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_a_wrong_cursor_is_explained(browse):
    page = browse("/?cursor=nonsense")
    assert page.status == 422
    assert "not a cursor" in page.text
