"""Landlock, by which a Linux process forbids itself and all that it starts what it does not need: the kernel's calls.

A ruleset names what it handles, rules say what of that stays allowed, and `restrict_self` puts it up, for good. Python
has no binding for it, so this is linux/landlock.h. The numbers of the calls are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_FOR_VERSION = 1
RULE_FOR_A_PATH, RULE_FOR_A_PORT = 1, 2
PR_SET_NO_NEW_PRIVS = 38

WRITE_FILE, READ_FILE, READ_DIR, MAKE_REG, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 8, 1 << 14
CONNECT_TCP = 1 << 1
# What can be forbidden about files, TCP and other processes, by the first version that knows it.
FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: TRUNCATE, 5: 1 << 15}
TCP_RIGHTS = {4: 0b11}
SCOPES = {6: 0b11}


@cache
def version() -> int:
    """The version of the kernel's Landlock, 0 where it has none or where it is switched off."""
    if sys.platform != "linux":
        return 0
    found: int = libc().syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), ASK_FOR_VERSION)
    return max(0, found)


def known(rights: Mapping[int, int]) -> int:
    """Those of the rights that this kernel can forbid."""
    return sum(bits for since, bits in rights.items() if since <= version())


@contextmanager
def ruleset(*, files: int = 0, tcp: int = 0, scopes: int = 0) -> Iterator[int]:
    """A ruleset that forbids these rights, for rules to be added to; it restricts nobody before `restrict_self`."""
    handled = (ctypes.c_uint64 * 3)(files, tcp, scopes)
    # An older kernel knows a shorter struct, and takes the longer one while zeros follow.
    made = _call(CREATE_RULESET, handled, ctypes.c_size_t(ctypes.sizeof(handled)), 0)
    try:
        yield made
    finally:
        os.close(made)


def allow_path(made: int, path: Path, rights: int) -> None:
    """Leave these rights on a file, or on all that lies below a folder."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _call(ADD_RULE, made, RULE_FOR_A_PATH, ctypes.byref(_PathBeneath(rights, fd)), 0)
    finally:
        os.close(fd)


def allow_port(made: int, port: int, rights: int) -> None:
    """Leave these rights on a TCP port, whatever the address."""
    _call(ADD_RULE, made, RULE_FOR_A_PORT, (ctypes.c_uint64 * 2)(rights, port), 0)


def restrict_self(made: int) -> None:
    """Put the rules up around the calling thread and what it starts from now on."""
    _call(RESTRICT_SELF, made, 0)


def gain_no_rights() -> None:
    """Let no program that is started have more rights; without it only root may restrict itself."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def prctl(option: int, *arguments: int) -> None:
    """The call of that name. Raises OSError."""
    checked(libc().prctl(option, *(ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0)[:4])))


@cache
def libc() -> ctypes.CDLL:
    """The library of C, which keeps the errors of its calls for `checked`."""
    return ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """What a call of libc gave. Raises OSError when it is an error."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class _PathBeneath(ctypes.Structure):
    """struct landlock_path_beneath_attr"""

    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _call(number: int, *arguments: object) -> int:
    return checked(libc().syscall(ctypes.c_long(number), *arguments))
