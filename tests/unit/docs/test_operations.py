"""The documentation names every setting with its default, and none that does not exist."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from shared.settings import PREFIX, Settings, is_secret, variable_of

ROOT = Path(__file__).parents[3]


def documented() -> dict[str, str]:
    text = (ROOT / "docs" / "operations.md").read_text()
    return dict(re.findall(r"^\| `(REELMAP_[A-Z0-9_]+)` \|(?: `?([^|`]*?)`?)? \|", text, re.MULTILINE))


def test_every_setting_is_documented():
    assert set(documented()) == {PREFIX + field.name.upper() for field in fields(Settings)}


def test_the_documented_defaults_are_the_real_ones():
    said = documented()
    for field in fields(Settings):
        text = said[PREFIX + field.name.upper()]
        if isinstance(field.default, bool):
            assert text == ("yes" if field.default else "no"), field.name
        elif isinstance(field.default, int | float):
            assert float(text) == field.default, field.name
        elif isinstance(field.default, str):
            assert text == field.default, field.name


def test_secrets_that_may_be_in_files_are_marked():
    text = (ROOT / "docs" / "operations.md").read_text()
    marked = set(re.findall(r"^\| `(REELMAP_[A-Z0-9_]+)` \| \| ● ", text, re.MULTILINE))
    assert marked == {variable_of(field) for field in fields(Settings) if is_secret(field)}


def test_the_promise_stands_in_the_readme():
    words = " ".join((ROOT / "README.md").read_text().replace(">", "").split())
    assert (
        "Once the API has answered 202, the job reaches succeeded, partly failed, failed (with a reason) or cancelled, "
        "provided committed Postgres data survives. Redis may be wiped at any moment. Every key frame, vector and "
        "cluster row exists at most once; a task may run more than once." in words
    )
