"""The faults that every change must survive, on one Reelmap, with a lease of 6 s. `make faults` does all of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.report import FAULTS, run
from tests.faults.scene import SHORT, scene

pytestmark = pytest.mark.e2e

SEED = random.SystemRandom().randrange(1, 2**31)


SHORT_SET = [fault for fault in FAULTS.values() if fault.is_short]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory):
    """One scene for all of them: each fault finds what the ones before it left."""
    folder: Path = tmp_path_factory.mktemp("faults")
    with scene(folder, SHORT, SEED) as here:
        yield here


@pytest.fixture(scope="module")
def here_in_a_bucket(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("faults-in-a-bucket")
    with scene(folder, SHORT, SEED, in_a_bucket=True) as here:
        yield here


@pytest.mark.parametrize("id", [fault.id for fault in SHORT_SET if fault.in_a_bucket])
def test_survives_with_blobs_in_a_bucket(here_in_a_bucket, id):
    [line] = run(here_in_a_bucket, [FAULTS[id]], SEED)
    assert line.is_survived, line


@pytest.mark.parametrize("id", [fault.id for fault in SHORT_SET if not fault.in_a_bucket])
def test_survives(here, id):
    [line] = run(here, [FAULTS[id]], SEED)
    assert line.is_survived, line
