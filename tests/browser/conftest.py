"""A real Chromium before the real application on a real Postgres."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from werkzeug.serving import make_server

from services.api.app import create_app
from services.embedding.availability import note_what_loads
from shared.settings import load_settings
from tests.browser.axe import AxeMissing, axe_source
from tests.browser.scene import Scene

#: Says that a browser must be there: then what lacks one fails instead of being skipped. Read before tests change it.
_REQUIRED = os.environ.get("REQUIRE_BROWSER") == "1"


def _lacking(what: str) -> NoReturn:
    if _REQUIRED:
        pytest.fail(f"{what}, and REQUIRE_BROWSER=1 says that this must not be skipped", pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def axe() -> str:
    """The script that judges pages."""
    try:
        return axe_source()
    except AxeMissing as error:
        _lacking(str(error))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, as Debian has it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        _lacking("there is no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        # Its own sandbox needs rights that containers do not give; it opens our own pages only.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass(frozen=True)
class Site:
    """The application as it listens. origin: without a slash at the end."""

    origin: str
    scene: Scene

    def at(self, name: str) -> str:
        """The address of the page that shows that."""
        return self.origin + self.scene.addresses[name]


@pytest.fixture(scope="session")
def site(
    browser: Browser, postgres_server, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    settings = load_settings(
        {
            "REELMAP_DATABASE_URL": postgres_server.create_database("browser", template=migrated_template),
            "REELMAP_BLOBS_FOLDER": str(folder / "blobs"),
            "REELMAP_WORK_FOLDER": str(folder / "work"),
            "REELMAP_HUB": "no",
            "REELMAP_ACCESS": "keys",
            "REELMAP_COOKIE_SECRET": "0123456789abcdef" * 2,
        }
    )
    app = create_app(settings)
    database = app.extensions["reelmap"].database
    note_what_loads(settings, database)
    scene = Scene(app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Site(f"http://127.0.0.1:{server.port}", scene)
    server.shutdown()
    thread.join()
    server.server_close()
    database.dispose()
    postgres_server.drop_database("browser")


@pytest.fixture(scope="session")
def signed_in(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    """A browser in which somebody has signed in, as people do."""
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{site.origin}/")
    page.get_by_label("Key").fill(site.scene.key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site.origin}/")
    page.close()
    yield context
    context.close()
