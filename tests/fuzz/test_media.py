"""A short run over mutated media; `python -m tests.fuzz.media` makes a long one."""

from __future__ import annotations

import pytest

from tests.fuzz import media


@pytest.fixture(scope="module")
def corpus() -> list[bytes]:
    return media.seeds()


def test_no_mutated_file_gets_past_its_own_process(corpus) -> None:
    report = media.attack(range(150), 3, corpus)

    assert report.faults == []
    assert report.tried == 150
    # Both happen, or the mutations are too weak or too strong to say anything.
    assert report.extracted > 20
    assert sum(report.refused.values()) > 20


def test_a_file_of_a_run_can_be_made_again(corpus) -> None:
    again = media.seeds()

    assert again == corpus
    assert media.mutated(7, 3, corpus) == media.mutated(7, 3, again) != media.mutated(7, 4, corpus)


def test_what_must_not_happen_is_a_fault(corpus, monkeypatch) -> None:
    monkeypatch.setattr(media, "MAX_GROWTH_BYTES", -(2**40))
    monkeypatch.setattr(media, "MARGIN_S", -media.LIMITS.max_wall_s)

    report = media.attack(range(media.WARM_UP + 2), 3, corpus)

    assert report.hangs == report.tried == media.WARM_UP + 2
    assert "the helper grew" in report.faults
