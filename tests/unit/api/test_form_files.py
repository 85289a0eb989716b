"""The files of a form: one place for all of them."""

from __future__ import annotations

import errno
import io
import os

import pytest

from services.api.form_files import MEMORY_BYTES, FormFiles, exhaustion
from shared.errors import TransientError


def test_a_thousand_files_cost_one_descriptor_and_half_a_megabyte(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    files = FormFiles(tmp_path)
    sent = []
    for number in range(1000):
        file = files.add()
        for _ in range(4):
            file.write(bytes([number % 256]) * 1024)
        file.seek(0)
        sent.append(file)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert os.fstat(files.spool.fileno()).st_size >= files.size_bytes - MEMORY_BYTES
    assert list(tmp_path.iterdir()) == []
    for number, file in enumerate(sent):
        assert file.read() == bytes([number % 256]) * 4096
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_of_a_form_is_a_stream_of_its_own(tmp_path):
    files = FormFiles(tmp_path)
    first = files.add()
    first.write(b"0123456789")
    second = files.add()
    second.write(b"abc")
    assert (first.tell(), first.seek(4), first.read(3), first.read(100), first.read()) == (10, 4, b"456", b"789", b"")
    assert (second.seek(-2, os.SEEK_END), second.read(), second.size_bytes) == (1, b"bc", 3)
    assert (first.seek(100), first.seek(-3, os.SEEK_CUR), first.read()) == (10, 7, b"789")
    assert io.BufferedReader(first).seekable()
    files.close()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM])
def test_what_ran_out_is_told_and_passes(code):
    assert isinstance(exhaustion(OSError(code, "x")), TransientError)


def test_other_errors_of_the_system_are_not_taken_for_it():
    assert exhaustion(OSError(errno.EACCES, "x")) is None
    assert exhaustion(OSError("without a number")) is None
