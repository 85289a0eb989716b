"""Exports over HTTP, from the request to the file, written by the real handler on a real Postgres."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from datetime import datetime

import pytest
from sqlalchemy import text

from services.api.commands.exports import MAX_OPEN
from shared import gc
from shared.blobs import BlobMissing

pytestmark = pytest.mark.integration

UNKNOWN = "00000000-0000-4000-8000-000000000000"
API = "/api/v1"


@pytest.fixture
def job_id(submit, workers) -> str:
    """A finished job of 4 videos with 3 key frames each: one noise, 11 in 2 clusters."""
    job_id = submit(4)["id"]
    workers.extract(job_id)
    workers.embed(job_id)
    workers.cluster(job_id, noise=1)
    return job_id


@pytest.fixture
def clustering(client, job_id) -> dict:
    return client.get(f"{API}/jobs/{job_id}/clusterings").json["clusterings"][0]


@pytest.fixture
def clusters(client, clustering) -> list[dict]:
    return client.get(clustering["links"]["clusters"]).json["clusters"]


def ask(client, **subject) -> dict:
    answer = client.post(f"{API}/exports", json=subject)
    assert answer.status_code == 202, answer.json
    assert answer.headers["Location"] == answer.json["links"]["self"]
    return answer.json


def fetched(client, export: dict) -> bytes:
    with client.get(export["links"]["self"] + "/file") as answer:
        assert answer.status_code == 200, answer.json
        return answer.data


def export_size(client, export: dict) -> int:
    return client.get(export["links"]["self"]).json["size_bytes"]


def lines_of(client, export: dict) -> list[dict]:
    return [json.loads(line) for line in fetched(client, export).splitlines()]


def fields(answer) -> list[str]:
    assert answer.content_type == "application/problem+json"
    return [error["field"] for error in answer.json["errors"]]


def test_an_export_is_asked_for_written_and_fetched(client, clustering, write):
    asked = ask(client, clustering_id=clustering["id"])
    assert (asked["state"], asked["format"], asked["key_frames"], asked["written"]) == ("queued", "zip", None, 0)
    assert "file" not in asked["links"]
    too_early = client.get(asked["links"]["self"] + "/file")
    assert (too_early.status_code, "not written yet" in too_early.json["detail"]) == (409, True)

    write()

    done = client.get(asked["links"]["self"]).json
    assert (done["state"], done["key_frames"], done["written"], done["error"]) == ("succeeded", 12, 12, None)
    with client.get(done["links"]["file"]) as answer:
        data = answer.data
    assert (answer.mimetype, int(answer.headers["Content-Length"])) == ("application/zip", done["size_bytes"])
    assert answer.headers["Content-Disposition"] == f"attachment; filename=reelmap-clustering-{done['id']}.zip"
    assert answer.headers["Cache-Control"].startswith("private")
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    table = list(csv.DictReader(io.StringIO(archive.read("key_frames.csv").decode("utf-8-sig"), newline="")))
    assert [line["cluster"] for line in table] == ["0"] * 5 + ["1"] * 6 + ["-1"]
    assert table[-1]["file"].startswith("pictures/noise/") and table[-1]["distance"] == ""
    for line in table:
        picture = client.get(f"{API}/key-frames/{line['key_frame_id']}/image").data
        assert archive.read(line["file"]) == picture


def test_a_part_of_the_file_is_sent_so_that_what_broke_off_goes_on(client, job_id, write):
    export = ask(client, job_id=job_id, format="jsonl")
    write()
    address = export["links"]["self"] + "/file"
    data = fetched(client, export)
    with client.get(address) as whole:
        assert whole.data == data
    assert whole.headers["Accept-Ranges"] == "bytes"
    with client.get(address, headers={"Range": "bytes=100-", "If-Range": whole.headers["ETag"]}) as rest:
        assert (rest.status_code, rest.data) == (206, data[100:])
    assert rest.headers["Content-Range"] == f"bytes 100-{len(data) - 1}/{len(data)}"
    with client.get(address, headers={"Range": "bytes=100-", "If-Range": '"another"'}) as other:
        assert (other.status_code, other.data) == (200, data)
    beyond = client.get(address, headers={"Range": f"bytes={len(data)}-"})
    assert (beyond.status_code, beyond.content_type) == (416, "application/problem+json")
    with client.get(address, headers={"If-None-Match": whole.headers["ETag"]}) as same:
        assert (same.status_code, same.data) == (304, b"")


def test_a_job_is_exported_by_source_and_time(client, job_id, write):
    export = ask(client, job_id=job_id, format="jsonl")
    write()
    lines = lines_of(client, export)
    assert [(line["source_url"], line["time_s"]) for line in lines] == [
        (f"https://example.org/{video}.mp4", float(second)) for video in range(4) for second in range(3)
    ]
    assert {(line["cluster"], line["distance"]) for line in lines} == {(None, None)}
    assert len({line["file"].lower() for line in lines}) == 12
    assert [line["video"] for line in lines[::3]] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]


def test_a_video_that_several_sources_show_is_exported_once(client, submit, workers, write):
    job_id = submit(3)["id"]
    workers.extract(job_id, same_video=True)
    export = ask(client, job_id=job_id, format="jsonl")
    write()
    assert [line["source_url"] for line in lines_of(client, export)] == ["https://example.org/0.mp4"] * 3


def test_a_cluster_is_exported_nearest_first(client, clusters, write):
    export = ask(client, cluster_id=clusters[0]["id"], format="jsonl")
    write()
    lines = lines_of(client, export)
    listed = client.get(clusters[0]["links"]["key_frames"]).json["key_frames"]
    assert [line["key_frame_id"] for line in lines] == [each["id"] for each in listed]
    assert [line["distance"] for line in lines] == pytest.approx([each["distance"] for each in listed])
    assert {line["cluster"] for line in lines} == {0}


def test_noise_is_exported_video_by_video(client, submit, workers, write):
    job_id = submit(3)["id"]
    workers.extract(job_id)
    workers.embed(job_id)
    workers.cluster(job_id, noise=5)
    [clustering] = client.get(f"{API}/jobs/{job_id}/clusterings").json["clusterings"]
    noise = client.get(clustering["links"]["clusters"]).json["clusters"][-1]
    export = ask(client, cluster_id=noise["id"], format="jsonl")
    write()
    lines = lines_of(client, export)
    assert [(line["cluster"], line["distance"]) for line in lines] == [(-1, None)] * 5
    where = [(line["source_url"], line["time_s"]) for line in lines]
    assert where == sorted(where)


def test_the_answer_to_a_search_is_exported(client, job_id, submit, workers, clusters, write):
    workers.finish(submit(["https://example.org/other.mp4"])["id"])
    example = clusters[0]["medoid"]["id"]
    search = {"key_frame_id": example, "jobs": [job_id], "limit": 7}
    export = ask(client, search=search, format="jsonl")
    assert export["subject"]["model"] == "hog_color"
    write()
    lines = lines_of(client, export)
    found = client.post(f"{API}/search", json=search).json["results"]
    assert [line["key_frame_id"] for line in lines] == [each["id"] for each in found]
    assert [line["distance"] for line in lines] == pytest.approx([each["distance"] for each in found], rel=1e-6)
    everywhere = ask(client, search={"key_frame_id": example, "limit": 10_000}, format="jsonl")
    write()
    assert len(lines_of(client, everywhere)) == 14


def test_the_answer_to_a_search_by_picture_is_exported_as_long_as_the_picture_is_there(
    client, job_id, service, jpeg, write
):
    sent = client.post(f"{API}/search", data={"picture": (io.BytesIO(jpeg), "a.jpg"), "model": "hog_color"})
    query_id = sent.json["query"]["query_id"]
    early = client.post(f"{API}/exports", json={"search": {"query_id": query_id}})
    assert (early.status_code, fields(early)) == (422, ["search.query_id"])
    with service.database.transaction() as connection:
        connection.execute(text("UPDATE queries SET vector = '[1,0,0]'"))
    first, second = (ask(client, search={"query_id": query_id, "limit": 5}, format="jsonl") for _ in range(2))
    write_one_then_lose(service, write, second)
    assert len(lines_of(client, first)) == 5
    assert client.get(second["links"]["self"]).json["error"]["kind"] == "nothing_to_export"


def write_one_then_lose(service, write, last: dict) -> None:
    """Write all but `last`, delete the query pictures, write `last`."""
    with service.database.transaction() as connection:
        task = "UPDATE tasks SET run_at = now() + make_interval(hours => :h) WHERE export_id = :id"
        connection.execute(text(task), {"h": 1, "id": last["id"]})
    write()
    with service.database.transaction() as connection:
        connection.execute(text("DELETE FROM queries"))
        connection.execute(text(task), {"h": 0, "id": last["id"]})
    write()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "job_id"),
        ({"job_id": UNKNOWN, "cluster_id": UNKNOWN}, "cluster_id"),
        ({"job_id": UNKNOWN, "format": "exe"}, "format"),
        ({"job_id": UNKNOWN, "format": "os"}, "format"),
        ({"job_id": "seven"}, "job_id"),
        ({"search": {}}, "search.key_frame_id"),
        ({"search": {"key_frame_id": UNKNOWN, "query_id": UNKNOWN}}, "search.key_frame_id"),
        ({"search": {"key_frame_id": UNKNOWN, "limit": 10_001}}, "search.limit"),
        ({"search": {"key_frame_id": UNKNOWN, "jobs": [UNKNOWN]}}, "jobs.0"),
        ({"video": UNKNOWN}, "video"),
    ],
)
def test_what_cannot_be_exported_is_named(standing_client, body, field):
    answer = standing_client.post(f"{API}/exports", json=body)
    assert (answer.status_code, fields(answer)) == (422, [field])


@pytest.mark.parametrize("name", ["job_id", "clustering_id", "cluster_id"])
def test_what_is_not_there_is_not_exported(standing_client, name):
    answer = standing_client.post(f"{API}/exports", json={name: UNKNOWN})
    assert answer.status_code == 404


def test_nothing_is_no_export(standing_client, standing_job_id, client, submit):
    answer = standing_client.post(f"{API}/exports", json={"job_id": standing_job_id})
    assert (answer.status_code, fields(answer)) == (422, ["job_id"])
    assert "no key frames yet" in answer.json["detail"]
    job_id = submit(1)["id"]
    asked = client.post(f"{API}/jobs/{job_id}/clusterings", json={}).json
    answer = client.post(f"{API}/exports", json={"clustering_id": asked["id"]})
    assert (answer.status_code, fields(answer)) == (422, ["clustering_id"])


def test_a_job_that_is_deleted_takes_its_exports_along(client, job_id, service, write):
    done = ask(client, job_id=job_id)
    write()
    waiting = ask(client, job_id=job_id)
    with service.database.transaction() as connection:
        [blob] = connection.execute(text("SELECT blob FROM exports WHERE blob IS NOT NULL")).scalars()
    assert client.delete(f"{API}/jobs/{job_id}").status_code == 204
    for export in (done, waiting):
        assert client.get(export["links"]["self"]).status_code == 404
        assert client.get(export["links"]["self"] + "/file").status_code == 404
    with pytest.raises(BlobMissing):
        service.blobs.read(blob)
    with service.database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM tasks")).scalar() == 0
    write()


def test_pictures_that_are_gone_are_the_exports_reason(client, job_id, service, write):
    export = ask(client, job_id=job_id)
    with service.database.transaction() as connection:
        names = list(connection.execute(text("SELECT blob FROM key_frames")).scalars())
    service.blobs.delete(names[-1:])
    write()
    failed = client.get(export["links"]["self"]).json
    assert (failed["state"], failed["error"]["kind"]) == ("failed", "pictures_missing")
    assert names[-1] in failed["error"]["message"]
    answer = client.get(export["links"]["self"] + "/file")
    assert answer.status_code == 409 and names[-1] in answer.json["detail"]


def test_exports_change_nothing_of_the_job(client, job_id, service, write):
    before = client.get(f"{API}/jobs/{job_id}").json
    ask(client, job_id=job_id)
    assert client.get(f"{API}/jobs/{job_id}").json == before
    write()
    assert client.get(f"{API}/jobs/{job_id}").json == before
    assert client.post(f"{API}/jobs/{job_id}/cancel").json["state"] == "succeeded"


def test_a_deleted_export_is_gone_with_its_file(client, job_id, service, write):
    export = ask(client, job_id=job_id)
    write()
    with service.database.transaction() as connection:
        [blob] = connection.execute(text("SELECT blob FROM exports")).scalars()
    assert client.delete(export["links"]["self"]).status_code == 204
    assert client.delete(export["links"]["self"]).status_code == 404
    with pytest.raises(BlobMissing):
        service.blobs.read(blob)
    waiting = ask(client, job_id=job_id)
    assert client.delete(waiting["links"]["self"]).status_code == 204
    write()


def test_exports_past_their_time_are_gone_and_cleaned_up(client, job_id, service, write):
    export = ask(client, job_id=job_id)
    write()
    kept = ask(client, job_id=job_id, format="jsonl")
    write()
    with service.database.transaction() as connection:
        connection.execute(
            text("UPDATE exports SET expires_at = now() - interval '1 s' WHERE id = :id"), {"id": export["id"]}
        )
    assert client.get(export["links"]["self"]).status_code == 404
    assert [each["id"] for each in client.get(f"{API}/exports").json["exports"]] == [kept["id"]]
    for delete in (False, True):
        heaps = gc.collect(service.database, service.blobs, older_than_s=-1, delete=delete, adopt=True)
        found = {heap.kind: heap.count for heap in heaps if "exports" in heap.kind}
        assert found == {"exports past their time": 1, "exports in the store": 1}
    assert len(fetched(client, kept)) == export_size(client, kept)


def test_an_export_is_kept_for_as_long_as_the_setting_says(client, job_id):
    export = ask(client, job_id=job_id)
    created, expires = (datetime.fromisoformat(export[name]) for name in ("created_at", "expires_at"))
    assert (expires - created).total_seconds() == pytest.approx(7 * 24 * 3600, abs=2)


def test_exports_are_listed_newest_first(client, job_id):
    ids = [ask(client, job_id=job_id)["id"] for _ in range(3)]
    first = client.get(f"{API}/exports?limit=2").json
    rest = client.get(f"{API}/exports?limit=2&cursor={first['next_cursor']}").json
    assert [each["id"] for each in first["exports"] + rest["exports"]] == ids[::-1]
    assert rest["next_cursor"] is None


def test_nobody_fills_the_queue(client, job_id):
    for _ in range(MAX_OPEN):
        ask(client, job_id=job_id)
    answer = client.post(f"{API}/exports", json={"job_id": job_id})
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) > 0


def test_the_same_request_twice_is_one_export(client, job_id):
    headers = {"Idempotency-Key": "once"}
    ids = {client.post(f"{API}/exports", json={"job_id": job_id}, headers=headers).json["id"] for _ in range(2)}
    assert len(ids) == 1


def test_readers_export_what_they_see_and_writers_delete(with_key, job_id, write):
    reader, writer, stranger = with_key("reader"), with_key("writer"), with_key("admin", project="other")
    export = ask(reader, job_id=job_id)
    write()
    assert len(fetched(reader, export)) == export_size(reader, export)
    assert stranger.get(export["links"]["self"]).status_code == 404
    assert stranger.get(export["links"]["self"] + "/file").status_code == 404
    assert stranger.post(f"{API}/exports", json={"job_id": job_id}).status_code == 404
    assert stranger.get(f"{API}/exports").json["exports"] == []
    assert reader.delete(export["links"]["self"]).status_code == 403
    assert stranger.delete(export["links"]["self"]).status_code == 404
    assert writer.delete(export["links"]["self"]).status_code == 204


def test_formats_are_listed(client):
    formats = {each["name"]: each for each in client.get(f"{API}/formats").json["formats"]}
    assert formats["zip"]["media_type"] == "application/zip" and formats["jsonl"]["suffix"] == ".jsonl"


def test_a_page_asks_for_an_export_and_leads_to_its_file(client, job_id, clustering, clusters, write):
    for address, name, value in (
        (f"/jobs/{job_id}", "job_id", job_id),
        (clustering["links"]["page"], "clustering_id", clustering["id"]),
        (clusters[0]["links"]["page"], "cluster_id", clusters[0]["id"]),
        (f"/key-frames/{clusters[0]['medoid']['id']}", "key_frame_id", clusters[0]["medoid"]["id"]),
    ):
        page = client.get(address)
        assert page.status_code == 200
        assert f'<input type="hidden" name="{name}" value="{value}">' in page.text
        more = {"model": "hog_color", "limit": "5"} if name == "key_frame_id" else {}
        asked = client.post("/exports", data={name: value, "format": "jsonl", **more})
        assert asked.status_code == 303
        waiting = client.get(asked.location).text
        assert "being written" in waiting and "data-poll" in waiting
        write()
        done = client.get(asked.location).text
        assert 'id="download"' in done and "data-poll" not in done
        file = asked.location.removeprefix("http://localhost")
        with client.get(f"{API}{file}/file") as answer:
            assert len(answer.data.splitlines()) == (5 if name == "cluster_id" else 12 if name != "key_frame_id" else 5)
    listed = client.get("/exports").text
    assert listed.count("jsonl") == 4
    assert client.post(f"{asked.location}/delete").status_code == 303
    assert client.get(asked.location).status_code == 404


def test_the_page_says_why_an_export_failed_and_that_there_is_none(client, job_id, service, write):
    assert "There is none" in client.get("/exports").text
    asked = client.post("/exports", data={"job_id": job_id, "format": "zip"})
    with service.database.transaction() as connection:
        names = list(connection.execute(text("SELECT blob FROM key_frames")).scalars())
    service.blobs.delete(names)
    write()
    page = client.get(asked.location).text
    assert "is not in the store any more" in page and 'id="download"' not in page
