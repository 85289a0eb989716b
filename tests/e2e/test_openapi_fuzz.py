"""A short run of the fuzzer; `python -m tests.fuzz.api` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.api import fuzz, live_api

pytestmark = pytest.mark.e2e


def test_no_request_that_the_document_leads_to_breaks_the_api(guard, database_url: str, tmp_path: Path) -> None:
    with live_api(guard, database_url, tmp_path) as api:
        outcome = fuzz(api, tmp_path, seed=1, duration_s=6)
    assert outcome.is_good, f"{outcome}\n{outcome.errors}\n{outcome.defects}\n{outcome.report}"
    assert outcome.requests > 200
