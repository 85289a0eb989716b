"""Every page of ours in a real browser: nothing grave for anybody, no error, no overflow."""

from __future__ import annotations

import pytest

from tests.browser.visit import faults, visiting

pytestmark = pytest.mark.integration

PAGES = [
    *(
        "jobs",
        "job",
        "succeeded job",
        "failed job",
        "cancelled job",
        "running job",
        "waiting job",
        "key frames of a job",
    ),
    *("clustering", "named clustering", "cluster", "noise", "key frame", "video", "more like this"),
    *("search", "found", "searching", "exports", "export", "keys"),
    *("nothing there", "no such job", "a wrong address", "documentation"),
]


def test_the_list_names_every_page_of_the_scene(site):
    assert sorted(PAGES) == sorted(site.scene.addresses)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_grave_fault(site, signed_in, axe, name):
    with visiting(signed_in, site.at(name)) as visit:
        assert faults(visit, axe) == []


def test_the_page_to_sign_in_has_no_grave_fault(site, browser, axe):
    context = browser.new_context()
    with visiting(context, f"{site.origin}/") as visit:
        assert faults(visit, axe) == []
        visit.page.get_by_label("Key").fill("a wrong one")
        visit.page.get_by_role("button", name="Sign in").click()
        visit.page.get_by_role("alert").wait_for()
        assert faults(visit, axe) == []
    context.close()


def test_the_documentation_has_a_way_back(site, signed_in):
    with visiting(signed_in, site.at("documentation")) as visit:
        visit.page.get_by_role("heading", name="Clusterings").wait_for()  # Swagger UI has drawn the document
        visit.page.get_by_role("link", name="Back to Reelmap").click()
        visit.page.wait_for_url(f"{site.origin}/")
        assert visit.complaints == []
