"""Threads that wait leave their core to others, and there are no more of them than a container has cores."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shared.threads import cores, patient_threads


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        ("50000 100000", "1"),
        ("100000 100000", "1"),
        ("max 100000", None),
        (f"{cores() * 100_000} 100000", None),
        ("", None),
        ("of another system", None),
        (None, None),
    ],
)
def test_a_quota_of_fewer_cores_than_are_seen_is_said(tmp_path, quota, threads, monkeypatch):
    monkeypatch.setattr("shared.threads.cores", lambda: max(2, cores()))
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(f"{quota}\n")
    if quota and quota.startswith(f"{cores() * 100_000} ") and cores() < 2:
        pytest.skip("one core is fewer than two")
    wanted = {"OMP_WAIT_POLICY": "passive", **({"OMP_NUM_THREADS": threads} if threads else {})}
    assert patient_threads({}, file) == wanted


def test_what_a_person_set_stays(tmp_path):
    (tmp_path / "cpu.max").write_text("1 100000")
    assert patient_threads({"OMP_WAIT_POLICY": "active", "OMP_NUM_THREADS": "7"}, tmp_path / "cpu.max") == {}


def test_commands_that_work_alone_are_patient_before_anything_is_loaded():
    program = (
        "import os, sys\n"
        "from services import cli\n"
        "cli.commands.callback = None\n"
        "sys.argv = ['reelmap', '--version']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    ran = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "passive False False"
