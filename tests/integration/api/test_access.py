"""Who is let in: keys, roles, sign-ins, and what other sites make a browser send."""

from __future__ import annotations

import io
import logging
import re

import pytest
from werkzeug.routing import Map

from services.api import access, key_checks, sessions
from services.api.app import create_app
from shared.logs import LineFormatter

pytestmark = pytest.mark.integration

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
NO_ID = "00000000-0000-4000-8000-000000000000"
WRONG = "rmk_00000000_" + "0" * 64
JOB = {"videos": ["https://example.org/a.mp4"], "models": ["hog_color"]}


def routes(url_map: Map) -> list[tuple[str, str, str]]:
    """(endpoint, method, path) of every address, ids filled in with one that nothing has."""
    found = []
    for rule in url_map.iter_rules():
        path = re.sub(r"<id:\w+>", NO_ID, rule.rule)
        path = re.sub(r"<[^>]+>", "reelmap.css" if rule.endpoint == "static" else "swagger-ui.css", path)
        found += [(rule.endpoint, method, path) for method in sorted(rule.methods - {"OPTIONS", "HEAD"})]
    return found


def sign_in(client, key: str, **fields: str):
    return client.post("/sign-in", data={"key": key, **fields}, headers=BROWSER)


# --- Keys ---------------------------------------------------------------------------------------------------------


def test_every_address_but_those_for_everybody_asks_for_a_key(closed_app, closed_client):
    seen = set()
    for endpoint, method, path in routes(closed_app.url_map):
        answer = closed_client.open(path, method=method, headers=BROWSER)
        seen.add(endpoint)
        if endpoint in access.PUBLIC:
            assert answer.status_code in (200, 303, 401), path
        elif path.startswith("/api/"):
            assert (answer.status_code, answer.mimetype) == (401, "application/problem+json"), path
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Reelmap"'
        else:
            assert answer.status_code in (302, 303), path
            assert answer.location.startswith("/sign-in"), path
        answer.close()
    assert seen >= access.PUBLIC | set(access.ROLES), "an endpoint that is listed is not there"
    for path in ("/nowhere", "/api/v1/nowhere", f"/api/v1/jobs/{NO_ID}/nowhere"):
        assert closed_client.get(path).status_code in (302, 401)


def test_a_header_that_is_no_key_is_refused_and_not_repeated(closed_client):
    closed_client.application.extensions["reelmap"].rates.count_wrong_key = lambda address: None
    for header in (
        *("", "Bearer", "Bearer ", "Basic YTpi", f"Bearer {WRONG}", f"Bearer {WRONG} {WRONG}", f"Token {WRONG}"),
        *("Bearer ÿ", "x" * 5000),
    ):
        for path in ("/api/v1/jobs", "/", "/search"):
            answer = closed_client.get(path, headers={"Authorization": header})
            assert (answer.status_code, answer.mimetype) == (401, "application/problem+json"), header
            assert "WWW-Authenticate" in answer.headers
            assert len(header) < 8 or header.split()[-1] not in answer.text


def test_a_reader_looks_a_writer_changes_an_admin_makes_keys(closed_app, with_key):
    clients = {role: with_key(role) for role in ("reader", "writer", "admin")}
    for endpoint, method, path in routes(closed_app.url_map):
        if endpoint in access.PUBLIC:
            continue
        needed = access.needed_role(endpoint, method)
        for role, client in clients.items():
            with client.open(path, method=method) as answer:
                refused = answer.status_code == 403
                assert refused != access.Role(role).may(needed), (role, method, path, answer.status_code)
                if refused:
                    assert f"needs the role {needed}" in answer.json["detail"]
    assert access.needed_role("jobs.delete_job", "DELETE") == "writer"
    assert access.needed_role("search.search", "POST") == "reader"


@pytest.fixture
def moment_later(monkeypatch):
    """Lets the time pass in which a key that was just seen is believed."""

    def moment_later() -> None:
        now = key_checks.time.monotonic()
        monkeypatch.setattr(key_checks.time, "monotonic", lambda: now + key_checks.BELIEVED_FOR_S)

    return moment_later


def test_a_revoked_key_ends_within_two_seconds_in_every_process(with_key, with_keys, moment_later):
    admin, reader = with_key("admin"), with_key("reader")
    assert reader.get("/api/v1/jobs").status_code == 200
    other_process = create_app(with_keys).test_client()
    other_process.environ_base["HTTP_AUTHORIZATION"] = reader.environ_base["HTTP_AUTHORIZATION"]
    assert other_process.get("/api/v1/jobs").status_code == 200
    [key] = [key for key in admin.get("/api/v1/keys").json["keys"] if key["role"] == "reader"]
    assert admin.delete(f"/api/v1/keys/{key['id']}").status_code == 204
    assert key_checks.BELIEVED_FOR_S == 2
    moment_later()
    assert reader.get("/api/v1/jobs").status_code == 401
    assert other_process.get("/api/v1/jobs").status_code == 401
    other_process.application.extensions["reelmap"].database.dispose()


def test_keys_over_http_are_shown_once_and_listed_without_their_secret(with_key, closed_app, moment_later):
    admin = with_key("admin")
    answer = admin.post("/api/v1/keys", json={"name": "ci", "role": "writer"})
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    made = answer.json
    assert made["key"].startswith(f"rmk_{made['prefix']}_")
    listed = admin.get("/api/v1/keys").json["keys"]
    assert [key["name"] for key in listed] == ["ci", "a admin"]
    assert listed[0] == {name: value for name, value in made.items() if name != "key"}
    assert admin.post("/api/v1/keys", json={"name": "ci", "role": "reader"}).status_code == 409
    client = closed_app.test_client()
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert client.post("/api/v1/jobs", json=JOB, headers=headers).status_code == 202
    assert admin.get("/api/v1/keys?limit=1").json["keys"][0]["last_used_at"] is not None
    first = admin.get("/api/v1/keys?limit=1").json
    assert [key["name"] for key in admin.get(f"/api/v1/keys?cursor={first['next_cursor']}").json["keys"]] == ["a admin"]
    assert admin.delete(f"/api/v1/keys/{NO_ID}").status_code == 404
    assert admin.delete(f"/api/v1/keys/{made['id']}").status_code == 204
    moment_later()
    assert client.get("/api/v1/jobs", headers=headers).status_code == 401


def test_a_key_that_cannot_be_made_says_which_field_is_wrong(with_key):
    admin = with_key("admin")
    for field, body in (
        ("name", {}),
        ("role", {"name": "x"}),
        ("role", {"name": "x", "role": "god"}),
        ("name", {"name": "", "role": "reader"}),
        ("name", {"name": "a\nb", "role": "reader"}),
        ("name", {"name": "x" * 101, "role": "reader"}),
        ("project_id", {"name": "x", "role": "reader", "project_id": NO_ID}),
    ):
        answer = admin.post("/api/v1/keys", json=body)
        assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, field)


def test_without_keys_nobody_makes_keys_over_http(client):
    answer = client.post("/api/v1/keys", json={"name": "x", "role": "admin"})
    assert answer.status_code == 403
    assert "reelmap keys" in answer.json["detail"]
    assert client.get("/keys", headers=BROWSER).status_code == 403


# --- No secret where it does not belong ----------------------------------------------------------------------------


def test_no_key_and_no_part_of_one_is_in_logs_or_errors(closed_app, with_key, make_key, caplog):
    caplog.set_level(logging.DEBUG)
    text = make_key("writer", name="a secret one")
    header = {"Authorization": f"Bearer {text}"}
    client = closed_app.test_client()
    answers = [client.open(path, method=method, headers=header) for _, method, path in routes(closed_app.url_map)]
    answers += [sign_in(client, text), sign_in(client, text[:-1] + "x"), sign_in(client, text, next="//evil.example")]
    answers += [client.get("/", headers=BROWSER), client.get("/nowhere", headers={"Authorization": f"Bearer {text}x"})]
    cut = {"Authorization": f"Bearer {text[:-1]}"}
    answers += [client.get("/api/v1/jobs", headers=cut), client.post("/api/v1/jobs", data="{", headers=cut)]
    secret = text.rsplit("_", 1)[-1]
    cookies = [value for answer in answers for value in answer.headers.getlist("Set-Cookie")]
    assert cookies
    formatter = LineFormatter("api")
    written = [formatter.format(record) for record in caplog.records]
    assert any("POST /sign-in" in line for line in written)
    assert any("a wrong key from 127.0.0.1" in line for line in written)
    assert any("GET /api/v1/jobs 200" in line and "key_id=" in line for line in written)
    told = [*written, *cookies, *(answer.text for answer in answers), *(answer.location or "" for answer in answers)]
    for each in told:
        assert secret[:16] not in each
        assert secret[-16:] not in each
    for answer in answers:
        answer.close()
    assert closed_app.extensions["reelmap"].settings.cookie_secret not in repr(closed_app.extensions["reelmap"])


# --- Sign-in ------------------------------------------------------------------------------------------------------


def test_a_page_leads_to_the_sign_in_and_from_there_back(closed_client, make_key):
    answer = closed_client.get("/search?model=a%20b", headers=BROWSER)
    assert (answer.status_code, answer.location) == (302, "/sign-in?next=/search%3Fmodel%3Da%2520b")
    page = closed_client.get(answer.location, headers=BROWSER)
    assert page.status_code == 200
    assert 'name="next" value="/search?model=a%20b"' in page.text
    answer = sign_in(closed_client, make_key("reader", name="Ada"), next="/search?model=a%20b")
    assert (answer.status_code, answer.location) == (303, "/search?model=a%20b")
    cookie = answer.headers["Set-Cookie"]
    assert re.match(r"reelmap=\S+; Expires=[^;]+; Max-Age=3600; HttpOnly; Path=/; SameSite=Lax$", cookie)
    shown = closed_client.get("/", headers=BROWSER)
    assert shown.status_code == 200
    assert "Ada" in shown.text and "Sign out" in shown.text
    assert closed_client.get("/api/v1/jobs").status_code == 200, "the page's script asks with the same cookie"


def test_over_https_the_cookie_never_leaves_it(closed_app, make_key):
    client = closed_app.test_client()
    answer = client.post("/sign-in", data={"key": make_key("reader")}, base_url="https://reelmap.example")
    assert answer.headers["Set-Cookie"].startswith("__Host-reelmap=")
    assert "Secure; HttpOnly; Path=/" in answer.headers["Set-Cookie"]
    assert "Domain" not in answer.headers["Set-Cookie"]
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert client.get("/", base_url="https://reelmap.example").status_code == 200
    assert "Strict-Transport-Security" not in client.get("/livez").headers


def test_signing_out_forgets_the_cookie_and_the_pictures(closed_client, make_key):
    sign_in(closed_client, make_key("reader"))
    answer = closed_client.post("/sign-out", headers=BROWSER)
    assert (answer.status_code, answer.location) == (303, "/sign-in")
    assert answer.headers["Clear-Site-Data"] == '"cache"'
    assert closed_client.get("/", headers=BROWSER).status_code == 302


def test_a_wrong_key_is_told_on_the_page_without_being_repeated(closed_client):
    answer = sign_in(closed_client, WRONG, next="/search")
    assert answer.status_code == 401
    assert "not known here" in answer.text
    assert WRONG not in answer.text
    assert 'name="next" value="/search"' in answer.text


def test_a_revoked_key_ends_its_sign_ins(closed_client, with_key, make_key, moment_later):
    sign_in(closed_client, make_key("reader", name="gone"))
    assert closed_client.get("/", headers=BROWSER).status_code == 200
    admin = with_key("admin")
    [key] = [key for key in admin.get("/api/v1/keys").json["keys"] if key["name"] == "gone"]
    admin.delete(f"/api/v1/keys/{key['id']}")
    moment_later()
    assert closed_client.get("/", headers=BROWSER).status_code == 302
    assert closed_client.get("/api/v1/jobs").status_code == 401


def test_a_cookie_that_we_did_not_sign_is_no_sign_in(closed_client, make_key):
    sign_in(closed_client, make_key("admin"))
    signed = closed_client.get_cookie("reelmap").value
    assert closed_client.get("/api/v1/keys").status_code == 200
    for forged in (signed[:-1], "x" + signed, signed.replace(".", ".x", 1), "", "a.b.c", "é"):
        closed_client.set_cookie("reelmap", forged)
        assert closed_client.get("/", headers=BROWSER).status_code == 302, forged
        assert closed_client.get("/api/v1/keys").status_code == 401


@pytest.fixture
def set_clock(monkeypatch):
    """Sets the clock of sign-ins to so many seconds after now."""
    now = sessions.time.time()
    return lambda later_s: monkeypatch.setattr(sessions.time, "time", lambda: now + later_s)


def test_a_sign_in_that_is_not_used_ends_after_an_hour(closed_client, make_key, set_clock):
    sign_in(closed_client, make_key("reader"))
    copied = closed_client.get_cookie("reelmap").value
    set_clock(3600 - 10)
    assert closed_client.get("/api/v1/jobs").status_code == 200
    set_clock(3600 + 10)
    assert closed_client.get("/api/v1/jobs").status_code == 200, "it was used"
    closed_client.set_cookie("reelmap", copied)
    assert closed_client.get("/api/v1/jobs").status_code == 401, "the cookie of an hour ago"


def test_a_sign_in_that_is_used_goes_on_for_twelve_hours_and_no_longer(closed_client, make_key, set_clock):
    sign_in(closed_client, make_key("reader"))
    for minutes in range(50, 12 * 60, 50):
        set_clock(minutes * 60)
        answer = closed_client.get("/", headers=BROWSER)
        assert answer.status_code == 200
        [max_age_s] = re.findall(r"Max-Age=(\d+)", answer.headers["Set-Cookie"])
        assert int(max_age_s) == pytest.approx(min(3600, (12 * 60 - minutes) * 60), abs=5)
    set_clock(12 * 3600 + 10)
    assert closed_client.get("/", headers=BROWSER).status_code == 302


def test_a_sign_in_is_renewed_every_few_minutes_and_by_what_a_person_asks_for(
    closed_app, closed_client, make_key, set_clock
):
    key = make_key("reader")
    sign_in(closed_client, key)
    assert "Set-Cookie" not in closed_client.get("/", headers=BROWSER).headers
    set_clock(sessions.RENEWED_EVERY_S + 5)
    assert "Set-Cookie" not in closed_client.get(f"/api/v1/key-frames/{NO_ID}/image").headers
    assert "Set-Cookie" not in closed_client.get("/sign-in").headers
    header = {"Authorization": f"Bearer {key}"}
    assert "Set-Cookie" not in closed_client.get("/api/v1/jobs", headers=header).headers
    assert "Set-Cookie" in closed_client.get("/", headers=BROWSER).headers
    assert "Set-Cookie" not in closed_client.get("/", headers=BROWSER).headers
    assert "Max-Age=0" in closed_client.post("/sign-out", headers=BROWSER).headers["Set-Cookie"]


def test_a_sign_in_may_be_set_to_last_longer(with_keys, make_key, set_clock):
    from dataclasses import replace

    app = create_app(replace(with_keys, session_s=7 * 24 * 3600))
    client = app.test_client()
    sign_in(client, make_key("reader"))
    set_clock(7 * 24 * 3600 - 10)
    assert client.get("/api/v1/jobs").status_code == 200
    set_clock(7 * 24 * 3600 + 10)
    assert client.get("/api/v1/jobs").status_code == 401
    app.extensions["reelmap"].database.dispose()


ELSEWHERE = [
    *(
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "http:evil.example",
        "///evil.example",
    ),
    *(
        "javascript:alert(1)",
        "evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "/ /evil.example",
        "/\0",
        "/é",
        "",
    ),
]


def test_signing_in_never_leads_to_another_site(closed_client, make_key):
    key = make_key("reader")
    for target in ELSEWHERE:
        answer = sign_in(closed_client, key, next=target)
        assert (answer.status_code, answer.location) == (303, "/"), target
        page = closed_client.get("/sign-in", query_string={"next": target}, headers=BROWSER)
        assert 'name="next" value="/"' in page.text, target


def test_the_page_of_keys_makes_shows_once_and_revokes(closed_client, make_key):
    sign_in(closed_client, make_key("admin", name="Ada"))
    page = closed_client.post("/keys", data={"name": "<b>ci</b>", "role": "writer"}, headers=BROWSER)
    assert page.status_code == 201
    assert page.headers["Cache-Control"] == "no-store"
    text = re.search(r"rmk_[0-9a-f]{8}_[0-9a-f]{64}", page.text)[0]
    assert "&lt;b&gt;ci&lt;/b&gt;" in page.text and "<b>ci" not in page.text
    again = closed_client.get("/keys", headers=BROWSER)
    assert text not in again.text and text[:12] in again.text and "(signed in)" in again.text
    refused = closed_client.post("/keys", data={"name": "<b>ci</b>", "role": "writer"}, headers=BROWSER)
    assert refused.status_code == 409
    assert "already" in refused.text
    [key] = [key for key in closed_client.get("/api/v1/keys").json["keys"] if key["name"] == "<b>ci</b>"]
    assert closed_client.post(f"/keys/{key['id']}/revoke", headers=BROWSER).location == "/keys"
    assert "revoked" in closed_client.get("/keys", headers=BROWSER).text


def test_a_reader_sees_no_forms_that_would_be_refused(closed_client, make_key, submit, workers):
    job = submit(1)
    sign_in(closed_client, make_key("reader"))
    page = closed_client.get("/", headers=BROWSER).text + closed_client.get(f"/jobs/{job['id']}", headers=BROWSER).text
    assert set(re.findall(r'<form[^>]* action="([^"]+)"', page)) == {"/sign-out"}
    assert 'href="/keys"' not in page
    assert closed_client.post("/search", data={}, headers=BROWSER).status_code == 422, "readers search"


# --- Other sites --------------------------------------------------------------------------------------------------


FOREIGN_HOSTS = [
    *("evil.example", "evil.example:8000", "192.168.1.5:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
    *("0.0.0.0:8000", "[::2]:8000", "128.0.0.1", "local_host", "a b", ""),
]
OWN_HOSTS = [
    *("localhost", "localhost:8000", "LOCALHOST:80", "localhost.", "reelmap.localhost:8000"),
    *("127.0.0.1", "127.0.0.1:8000", "127.8.9.1:1", "[::1]", "[::1]:8000"),
]
FOREIGN_ORIGINS = ["https://evil.example", "null", "http://localhost.evil.example", "file://", "http://[", ""]


@pytest.mark.parametrize(
    "headers", [{"Host": host} for host in FOREIGN_HOSTS] + [{"Origin": o} for o in FOREIGN_ORIGINS]
)
def test_without_keys_no_address_answers_other_names_and_pages_of_other_sites(standing_client, headers):
    for _, method, path in [*routes(standing_client.application.url_map), ("", "GET", "/nowhere")]:
        with standing_client.open(path, method=method, headers=headers) as answer:
            assert answer.status_code == 403, (method, path)


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_without_keys_this_machine_is_answered_under_each_of_its_names(standing_client, host):
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert standing_client.get("/api/v1/jobs", headers=headers).status_code == 200


def test_with_keys_every_name_is_answered(closed_client, with_key):
    assert with_key("reader").get("/api/v1/jobs", headers={"Host": "reelmap.example"}).status_code == 200


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "anything"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://reelmap.example"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://reelmap.example:8080"},
    {"Origin": "null"},
]
OURS = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://reelmap.example"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://reelmap.example"},
]


AT = {"base_url": "http://reelmap.example"}


def test_a_form_of_another_site_does_nothing_though_the_cookie_comes_along(closed_client, make_key):
    closed_client.post("/sign-in", data={"key": make_key("admin")}, **AT)
    for headers in CROSS_SITE:
        for endpoint, method, path in routes(closed_client.application.url_map):
            if method != "GET":
                answer = closed_client.open(path, method=method, headers=headers, **AT)
                assert answer.status_code == 403, (headers, endpoint)
                assert "another site" in answer.json["detail"]
        assert closed_client.get("/api/v1/jobs", headers=headers, **AT).status_code == 200


def test_our_own_forms_are_taken(closed_client, make_key):
    key = make_key("writer")
    form = {"videos": "https://example.org/a.mp4", "models": "hog_color"}
    for headers in OURS:
        assert closed_client.post("/sign-in", data={"key": key}, headers=headers, **AT).status_code == 303
        assert closed_client.post("/jobs", data=form, headers=headers, **AT).status_code == 303, headers


def test_a_program_with_a_key_is_no_browser(with_key):
    headers = {"Origin": "https://tool.example", "Sec-Fetch-Site": "cross-site"}
    assert with_key("writer").post("/api/v1/jobs", json=JOB, headers=headers).status_code == 202


# --- Rates --------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(with_keys, document, make_key):
    """Gives a client of an application with low limits, which shows this key."""
    from dataclasses import replace

    app = create_app(replace(with_keys, requests_per_minute=5, wrong_keys_per_minute=3))

    def busy(key: str = ""):
        client = app.test_client()
        if key:
            client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
        return client

    yield busy
    app.extensions["reelmap"].database.dispose()


def test_a_key_that_asks_too_often_is_told_when_to_come_back_and_others_are_not_held_up(busy, make_key):
    often, other = busy(make_key("reader", name="often")), busy(make_key("reader", name="other"))
    assert [often.get("/api/v1/algorithms").status_code for _ in range(5)] == [200] * 5
    answer = often.get("/api/v1/algorithms")
    assert (answer.status_code, answer.mimetype) == (429, "application/problem+json")
    assert 1 <= int(answer.headers["Retry-After"]) <= 61
    assert "5 times a minute" in answer.json["detail"]
    assert often.get("/", headers=BROWSER).mimetype == "text/html"
    assert other.get("/api/v1/algorithms").status_code == 200
    assert often.get("/livez").status_code == 200


def test_pictures_and_static_files_are_not_counted(busy, make_key):
    client = busy(make_key("reader"))
    for _ in range(20):
        assert client.get(f"/api/v1/key-frames/{NO_ID}/image").status_code == 404
        with client.get("/static/reelmap.css") as answer:
            assert answer.status_code == 200
    assert client.get("/api/v1/algorithms").status_code == 200


def test_wrong_keys_are_counted_by_address_and_right_ones_still_let_in(busy, make_key):
    guessing, right = busy(WRONG), busy(make_key("reader"))
    assert [guessing.get("/api/v1/jobs").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    page = sign_in(busy(), WRONG)
    assert page.status_code == 429
    assert "wrong keys" in page.text
    assert right.get("/api/v1/jobs").status_code == 200
    elsewhere = guessing.get("/api/v1/jobs", environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert elsewhere.status_code == 401


# --- Behind a proxy -----------------------------------------------------------------------------------------------


def test_forwarded_headers_are_believed_only_from_proxies_that_are_trusted(with_keys, make_key):
    from dataclasses import replace

    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "reelmap.example", "X-Forwarded-For": "192.0.2.7"}
    for proxies, secure in ((0, False), (1, True)):
        app = create_app(replace(with_keys, trusted_proxies=proxies))
        answer = app.test_client().post(
            "/sign-in", data={"key": make_key("reader", name=f"{proxies}")}, headers=headers
        )
        assert ("Secure" in answer.headers["Set-Cookie"]) is secure
        assert ("Strict-Transport-Security" in answer.headers) is secure
        app.extensions["reelmap"].database.dispose()


def test_an_upload_that_is_refused_at_the_door_is_not_read(closed_client):
    class Untouched(io.RawIOBase):
        def readinto(self, _buffer):
            raise AssertionError("the body was read")

        def readable(self):
            return True

    answer = closed_client.post(
        "/api/v1/uploads",
        environ_overrides={
            "wsgi.input": Untouched(),
            "CONTENT_LENGTH": "50000",
            "CONTENT_TYPE": "application/octet-stream",
        },
    )
    assert answer.status_code == 401
