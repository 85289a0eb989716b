"""Answers in fewer bytes: the same content, ETags that hold, and nothing where the length could tell something."""

from __future__ import annotations

import gzip
import io

import brotli
import pytest

BROWSER = {"Accept": "text/html"}


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate", "gzip"),
        ("br;q=0.5, gzip", "gzip"),
        ("deflate", None),
        ("identity", None),
        ("gzip;q=0", None),
        ("", None),
    ],
)
def test_the_best_encoding_that_both_know_is_used(client, submit, accepted, chosen):
    for _ in range(5):
        submit(1)
    answer = client.get("/api/v1/jobs", headers={"Accept-Encoding": accepted})
    assert answer.headers.get("Content-Encoding") == chosen
    assert "Accept-Encoding" in answer.headers["Vary"]


def test_what_comes_out_is_what_went_in_and_less_was_sent(client, submit):
    for _ in range(20):
        submit(1)
    for address, headers in (("/api/v1/jobs", {}), ("/", BROWSER), ("/static/reelmap.css", {})):
        with client.get(address, headers=headers) as answer:
            plain = answer.data
        for name, decompress in (("gzip", gzip.decompress), ("br", brotli.decompress)):
            with client.get(address, headers={**headers, "Accept-Encoding": name}) as answer:
                assert answer.headers["Content-Encoding"] == name
                sent = answer.data
            assert decompress(sent) == plain
            assert len(sent) < len(plain) / 2


def test_an_etag_names_one_encoding_and_is_answered_in_it(client, submit):
    job = f"/api/v1/jobs/{submit(1)['id']}"
    for address in (job, "/static/reelmap.css"):
        tags = set()
        for accepted in ("gzip", "br", "zstd", "identity"):
            with client.get(address, headers={"Accept-Encoding": accepted}) as answer:
                tag = answer.headers["ETag"]
                assert answer.status_code == 200 and answer.data
            with client.get(address, headers={"Accept-Encoding": accepted, "If-None-Match": tag}) as again:
                assert (again.status_code, again.data) == (304, b"")
                assert "Content-Encoding" not in again.headers
            tags.add(tag)
        # A weak one stands for the content in whatever bytes.
        assert len(tags) == (1 if tag.startswith("W/") else 4)


def test_pictures_and_parts_of_files_are_left_as_they_are(client, submit, workers):
    job_id = submit(1)["id"]
    workers.finish(job_id)
    clustering = client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"][0]
    medoid = client.get(clustering["links"]["clusters"]).json["clusters"][0]["medoid"]
    accepted = {"Accept-Encoding": "gzip, br, zstd"}
    picture = client.get(medoid["image"], headers=accepted)
    assert picture.mimetype == "image/jpeg" and "Content-Encoding" not in picture.headers
    with client.get("/static/reelmap.css", headers={**accepted, "Range": "bytes=0-999"}) as part:
        assert "Content-Encoding" not in part.headers
        assert (part.status_code, len(part.data)) == (206, 1000)


def test_an_answer_with_a_secret_in_it_is_not_compressed(with_key):
    admin = with_key("admin")
    made = admin.post("/api/v1/keys", json={"name": "x" * 100, "role": "reader"}, headers={"Accept-Encoding": "gzip"})
    assert made.status_code == 201 and "Content-Encoding" not in made.headers
    page = admin.post("/keys", data={"name": "b", "role": "reader"}, headers={**BROWSER, "Accept-Encoding": "gzip"})
    assert page.status_code == 201 and "rmk_" in page.text and "Content-Encoding" not in page.headers


@pytest.mark.parametrize(("site", "compressed"), [("cross-site", False), ("same-site", False), ("same-origin", True)])
def test_what_another_site_makes_a_browser_ask_for_is_not_compressed(client, submit, site, compressed):
    submit(1)
    answer = client.get("/", headers={**BROWSER, "Accept-Encoding": "gzip", "Sec-Fetch-Site": site})
    assert answer.status_code == 200
    assert (answer.headers.get("Content-Encoding") == "gzip") is compressed


def test_a_short_answer_and_an_error_are_left_as_they_are(client):
    accepted = {"Accept-Encoding": "gzip"}
    assert "Content-Encoding" not in client.get("/livez", headers=accepted).headers
    assert "Content-Encoding" not in client.get("/nowhere", headers=accepted).headers
    refused = client.post("/jobs", data={"files": (io.BytesIO(b""), "")}, headers={**BROWSER, **accepted})
    assert refused.status_code == 422 and "Content-Encoding" not in refused.headers
