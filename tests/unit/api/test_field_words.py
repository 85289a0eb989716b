"""What people read when a form is refused."""

from __future__ import annotations

import pytest

from services.api.pages.field_words import label, sentence
from shared import catalog


@pytest.mark.parametrize(
    ("field", "message", "said"),
    [
        ("clustering.n_clusters", "n_clusters is 0; it takes", "Clusters (k) is 0; it takes"),
        ("models.3", "there is no model", "Models: there is no model"),
        ("name", "at most 200 characters", "Name: at most 200 characters"),
        ("https://example.org/a.mp4", "is no video", "https://example.org/a.mp4: is no video"),
        ("holiday.mp4", "holiday.mp4 is empty", "holiday.mp4 is empty"),
        ("", "There is nothing", "There is nothing"),
    ],
)
def test_a_sentence_names_the_field_as_people_know_it(field, message, said):
    assert sentence(field, message) == said


def test_every_parameter_has_a_label_of_words():
    for entry in catalog.algorithms().values():
        for parameter in entry.parameters:
            assert "_" not in label(parameter.name)
            said = sentence(parameter.name, f"{parameter.name} is 0; it takes {parameter.takes}")
            assert parameter.name not in said
