"""Let this process, and all it starts, open TCP connections to one port only. The kernel holds it: Landlock, Linux 6.7.

A second wall behind the egress proxy, for code that would not ask the proxy. Landlock knows ports and not addresses,
and neither UDP nor sockets in the file system. Where the kernel has none of it, the proxy stands alone.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

# The numbers are the same on every architecture that Python's wheels are built for.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_FOR_VERSION = 1
_FIRST_VERSION_WITH_TCP = 4
_BIND_TCP, _CONNECT_TCP = 1, 2
_RULE_FOR_A_PORT = 2
_PR_SET_NO_NEW_PRIVS = 38


def allow_tcp_only_to(port: int) -> bool:
    """From now on, connect to this port only and listen on none; False where the kernel cannot hold it.

    Binds the calling thread and what it starts afterwards, so it has to come before the first thread. There is no way
    back.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_FOR_VERSION) < _FIRST_VERSION_WITH_TCP:
        return False
    # struct landlock_ruleset_attr: no access to files is handled, both to TCP are.
    handled = struct.pack("=QQ", 0, _BIND_TCP | _CONNECT_TCP)
    ruleset = _checked(libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0))
    try:
        rule = struct.pack("=QQ", _CONNECT_TCP, port)
        _checked(libc.syscall(_ADD_RULE, ruleset, _RULE_FOR_A_PORT, rule, 0))
        # Without it, only root may restrict itself.
        _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, *(ctypes.c_ulong(value) for value in (1, 0, 0, 0))))
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
