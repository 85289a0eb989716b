"""The faults that every change must survive, on one Reelmap, with a lease of 6 s. `make faults` does all of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.report import FAULTS, run
from tests.faults.scene import SHORT, scene

pytestmark = pytest.mark.e2e

SEED = random.SystemRandom().randrange(1, 2**31)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory):
    """One scene for all of them: each fault finds what the ones before it left."""
    folder: Path = tmp_path_factory.mktemp("faults")
    with scene(folder, SHORT, SEED) as here:
        yield here


@pytest.mark.parametrize("id", [id for id, fault in FAULTS.items() if fault.is_short])
def test_survives(here, id):
    [line] = run(here, [FAULTS[id]], SEED)
    assert line.is_survived, line
