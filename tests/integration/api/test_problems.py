"""Every error of the API is a problem document."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from services.api.app import create_app
from shared.settings import load_settings

pytestmark = pytest.mark.integration


def is_problem(answer, status: int) -> bool:
    assert answer.content_type == "application/problem+json"
    assert set(answer.json) == {"type", "title", "status", "detail", "errors", "request_id"}
    assert answer.json["type"].startswith("urn:reelmap:problem:")
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]
    return answer.status_code == answer.json["status"] == status


def test_what_http_itself_refuses_is_a_problem_document(standing_client):
    client = standing_client
    assert is_problem(client.get("/nowhere"), 404)
    assert is_problem(client.get("/api/v1/jobs/not-an-id"), 404)
    answer = client.put("/api/v1/jobs", json={})
    assert is_problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) >= {"GET", "POST"}


@pytest.mark.parametrize(
    "body", [b"{", b"", b"\xff\xfe", b"[" * 40_000, b"9" * 5000], ids=["cut", "empty", "bytes", "deep", "a number"]
)
def test_a_body_that_is_no_json_is_a_bad_request(standing_client, body):
    assert is_problem(standing_client.post("/api/v1/jobs", data=body, content_type="application/json"), 400)


@pytest.mark.parametrize("body", ["null", "[]", "3", "false", '""', '"text"', "NaN"])
def test_json_that_is_no_object_is_an_invalid_request(standing_client, standing_job_id, body):
    for path in ("/api/v1/jobs", f"/api/v1/jobs/{standing_job_id}/clusterings"):
        assert is_problem(standing_client.post(path, data=body, content_type="application/json"), 422)


def test_json_that_does_not_say_so_is_not_read(client):
    body = '{"videos": ["https://example.org/a"], "models": ["hog_color"]}'
    for content_type in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert is_problem(client.post("/api/v1/jobs", data=body, content_type=content_type), 415)
    assert client.post("/api/v1/jobs", data=body, content_type="application/json; charset=utf-8").status_code == 202


def test_a_request_id_that_the_client_gives_is_kept_and_a_strange_one_is_not(client):
    assert client.get("/livez", headers={"X-Request-ID": "abc-123"}).headers["X-Request-ID"] == "abc-123"
    assert client.get("/livez", headers={"X-Request-ID": "a b;c"}).headers["X-Request-ID"] != "a b;c"
    assert len(client.get("/livez").headers["X-Request-ID"]) == 32


@pytest.mark.allow_errors
def test_a_defect_is_logged_with_its_request_id_and_tells_nothing_about_itself(client, database, caplog):
    with database.transaction() as connection:
        connection.execute(text("ALTER TABLE jobs RENAME TO was_jobs"))
    answer = client.get("/api/v1/jobs")
    assert is_problem(answer, 500)
    assert "was_jobs" not in answer.text
    assert "jobs" not in answer.json["detail"]
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.request_id == answer.json["request_id"]


def test_a_database_that_is_away_is_said_to_come_back(tmp_path):
    app = create_app(
        load_settings(
            {
                "REELMAP_DATABASE_URL": f"postgresql+psycopg2:///reelmap?host={tmp_path}",
                "REELMAP_BLOBS_FOLDER": str(tmp_path),
                "REELMAP_ACCESS": "open",
            }
        )
    )
    client = app.test_client()
    jobs, body = "/api/v1/jobs", {"videos": ["https://example.org/a"]}
    for answer, advice in (
        (client.get(jobs), "Try again in a few seconds."),
        (client.get("/readyz"), ""),
        (client.post(jobs, json=body), "before you ask for it again"),
        (client.post(jobs, json=body, headers={"Idempotency-Key": "k"}), "under the same Idempotency-Key"),
    ):
        assert is_problem(answer, 503)
        assert answer.headers["Retry-After"] == "5"
        assert advice in answer.json["detail"]
    assert client.get("/livez").json == {"status": "ok"}
    assert client.get("/api/v1/algorithms").status_code == 200


def test_a_row_that_is_held_too_long_is_a_busy_database_and_no_defect(client, submit, database):
    job_id = submit(1)["id"]
    with database.transaction() as connection:
        connection.execute(text("SELECT FROM jobs WHERE id = :job FOR UPDATE"), {"job": job_id})
        with database.engine.connect() as other:
            other.execute(text("SET lock_timeout = '50ms'"))
            other.commit()
        answer = client.post(f"/api/v1/jobs/{job_id}/models", json={"models": ["tiny"]})
    assert is_problem(answer, 503)
    assert "others change the same right now" in answer.json["detail"]
    assert "Nothing was done" in answer.json["detail"]
    assert answer.headers["Retry-After"] == "5"


@pytest.mark.parametrize("code", ["40P01", "40001"])
def test_what_the_database_rolled_back_because_of_others_is_done_again(client, submit, database, code):
    job_id = submit(1)["id"]
    with database.transaction() as connection:
        # A sequence goes on also where a transaction is rolled back.
        connection.execute(
            text(
                f"""
                CREATE SEQUENCE tries;
                CREATE FUNCTION once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('tries') = 1 THEN RAISE EXCEPTION USING ERRCODE = '{code}'; END IF; RETURN NULL; END $$;
                CREATE TRIGGER once AFTER UPDATE OR DELETE ON jobs FOR EACH STATEMENT EXECUTE FUNCTION once()"""
            )
        )
    assert client.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 202
    with database.transaction() as connection:
        connection.execute(text("ALTER SEQUENCE tries RESTART"))
    assert client.post(f"/jobs/{job_id}/retry").status_code == 303
    with database.transaction() as connection:
        connection.execute(text("ALTER SEQUENCE tries RESTART"))
    assert client.delete(f"/api/v1/jobs/{job_id}").status_code == 204


def test_a_change_whose_confirmation_was_lost_is_not_said_to_be_undone_and_is_done_once(client, database):
    """The connection goes away at the very end of the transaction, where nobody knows what became of it."""
    with database.transaction() as connection:
        connection.execute(
            text(
                """
                CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
                CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION cut()"""
            )
        )
    body, headers = {"videos": ["https://example.org/a"], "models": ["tiny"]}, {"Idempotency-Key": "k"}
    answer = client.post("/api/v1/jobs", json=body, headers=headers)
    assert is_problem(answer, 503)
    assert "may have been done or not" in answer.json["detail"]
    with database.transaction() as connection:
        connection.execute(text("DROP TRIGGER cut ON jobs"))
    again = [client.post("/api/v1/jobs", json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in again] == [202, 202]
    assert len(client.get("/api/v1/jobs").json["jobs"]) == 1


def test_a_connection_that_was_cut_is_replaced(client, submit, database):
    submit(1)
    admin = create_engine_of(database)
    with admin.connect() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reelmap api'")
        )
    admin.dispose()
    assert client.get("/api/v1/jobs").status_code == 200


def create_engine_of(database):
    from sqlalchemy import create_engine

    return create_engine(database.url)


def test_a_database_with_an_older_schema_is_not_ready_and_one_with_a_newer_is(client, database):
    assert client.get("/readyz").json == {"status": "ok"}
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    answer = client.get("/readyz")
    assert is_problem(answer, 503)
    assert "0001" in answer.json["detail"]
    # What a later version has made, while this one is being replaced.
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert client.get("/readyz").json == {"status": "ok"}


def test_every_answer_forbids_guessing_framing_and_talking(client):
    for address in ("/livez", "/api/v1/jobs", "/nowhere", "/api/v1/docs"):
        headers = client.get(address).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
