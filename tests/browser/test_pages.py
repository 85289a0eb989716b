"""Every page of ours in a real browser: nothing grave for anybody, no error, no overflow."""

from __future__ import annotations

import pytest

from shared import catalog
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


def shown_parameters(page) -> list[str]:
    return [name for name in catalog.algorithms() if page.locator(f"fieldset[data-for={name}]").is_visible()]


def test_a_form_shows_and_sends_the_parameters_of_the_algorithm_that_is_chosen(site, signed_in, axe):
    with visiting(signed_in, site.at("job")) as visit:
        page = visit.page
        page.get_by_text("Cluster again").click()
        assert shown_parameters(page) == ["kmeans"]
        page.locator("fieldset[data-for=kmeans]").get_by_label("Clusters (k)").fill("many")
        page.get_by_label("Algorithm").select_option("hdbscan")
        assert shown_parameters(page) == ["hdbscan"]
        page.get_by_label("Least size of a cluster").fill("1")
        page.get_by_role("button", name="Cluster", exact=True).click()
        page.get_by_role("alert").get_by_text("Least size of a cluster is 1; it takes a whole number from 2").wait_for()
        assert shown_parameters(page) == ["hdbscan"]
        assert faults(visit, axe) == []
        page.get_by_label("Least size of a cluster").fill("3")
        page.get_by_role("button", name="Cluster", exact=True).click()
        page.wait_for_url("**/clusterings/*")
        assert visit.complaints == []


def test_without_scripts_all_parameters_are_there_and_the_chosen_ones_count(site, signed_in, browser):
    context = browser.new_context(java_script_enabled=False, storage_state=signed_in.storage_state())
    with visiting(context, site.at("succeeded job")) as visit:
        page = visit.page
        page.get_by_text("Cluster again").click()
        assert shown_parameters(page) == list(catalog.algorithms())
        page.locator("fieldset[data-for=kmeans]").get_by_label("Clusters (k)").fill("many")
        page.get_by_label("Algorithm").select_option("hierarchical")
        page.locator("fieldset[data-for=hierarchical]").get_by_label("Clusters (k)").fill("2")
        page.get_by_role("button", name="Cluster", exact=True).click()
        page.wait_for_url("**/clusterings/*")
    context.close()
