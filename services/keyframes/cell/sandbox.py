"""Takes from a process every right that reading one video does not need, so that a flaw in a decoder gains nothing.

Four walls, each of which stands without the others: limits on what the process may use up, rights that it gives back,
Landlock for files and TCP, a filter of system calls for everything else. What a machine does not have is left out, and
`missing_walls` says so. Every wall is for good: the process that calls `confine` cannot undo it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from shared import landlock
from shared.landlock import (
    FILE_RIGHTS,
    MAKE_REG,
    READ_DIR,
    READ_FILE,
    SCOPES,
    TCP_RIGHTS,
    TRUNCATE,
    WRITE_FILE,
    checked,
    libc,
    prctl,
)

# A picture takes 2 bytes a pixel at the very most, also of noise, and the largest frames have 36 million.
MAX_FILE_BYTES = 96 * 2**20
# Standard streams, the answer, the video, the picture that is being written, and some to spare.
MAX_OPEN_FILES = 32
# Between the signal that says "enough" and the one that cannot be ignored.
CPU_GRACE_S = 5

# linux/prctl.h, linux/capability.h
PR_SET_PDEATHSIG = 1
CAPABILITY_VERSION = 0x20080522
CAP_DAC_OVERRIDE = 1 << 1

# linux/seccomp.h, linux/filter.h, seccomp.h
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
INSTRUCTION_BYTES = 8
SCMP_ACT_ALLOW = 0x7FFF0000
SCMP_ACT_ERRNO = 0x00050000
SECCOMP_LIBRARY = "libseccomp.so.2"
# Landlock knows neither UDP nor the sockets of a database on this machine, and limits do not bind root.
FORBIDDEN_CALLS = (
    # to talk
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "io_uring_setup"),
    # to start something
    *("fork", "vfork", "clone", "clone3", "execve", "execveat"),
    # to meddle with other processes
    *("kill", "tkill", "tgkill", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "rt_sigqueueinfo"),
    *("rt_tgsigqueueinfo", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp"),
    # to get away from limits and from the process group
    *("prctl", "setrlimit", "prlimit64", "setsid", "setpgid", "unshare", "setns"),
    # what the kernel has that no decoder needs
    *("bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "mount", "umount2", "chroot"),
    *("pivot_root", "open_by_handle_at", "init_module", "finit_module", "kexec_load", "personality", "ioperm", "iopl"),
)


@dataclass(frozen=True)
class Allowance:
    """What a process may still do.

    read: the one file that it may read, besides Python's own code. write: the folder in which it may make files.
    memory_bytes: how much more memory than now. cpu_s: how many seconds of computing altogether.
    """

    read: Path
    write: Path
    memory_bytes: int
    cpu_s: int


def prepare() -> None:
    """Work out what all of the processes that will be forked from this one need, to save each of them 4 ms."""
    _code_folders()
    if _seccomp():
        _filter()


def confine(allowance: Allowance, parent_pid: int) -> None:
    """Give up what the allowance does not name. The process, which must have one thread, dies with its parent."""
    limit_use(allowance)
    if sys.platform == "linux":
        die_with(parent_pid)
        give_back_rights()
        if landlock.version():
            restrict_files(allowance)
        if _seccomp():
            forbid_calls()


def missing_walls() -> list[str]:
    """What this machine cannot do to confine a decoder, as sentences."""
    if sys.platform != "linux":
        return ["On this system a decoder is only limited in time, files and processes: the other walls need Linux."]
    missing = []
    if not landlock.version():
        missing.append(
            "This kernel has no Landlock: a decoder is not kept from other files (Linux 5.13 or newer has it)."
        )
    if not _seccomp():
        missing.append(
            f"{SECCOMP_LIBRARY} is not installed: a decoder is not kept from sockets and other processes "
            "(the package is called libseccomp2)."
        )
    return missing


def limit_use(allowance: Allowance) -> None:
    """Limit memory, computing time, the size of files, and how many files and processes there can be."""
    limits = {
        resource.RLIMIT_CPU: (allowance.cpu_s, allowance.cpu_s + CPU_GRACE_S),
        resource.RLIMIT_FSIZE: (MAX_FILE_BYTES, MAX_FILE_BYTES),
        resource.RLIMIT_NOFILE: (MAX_OPEN_FILES, MAX_OPEN_FILES),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NPROC: (0, 0),
    }
    if sys.platform == "linux":  # macOS reserves address space by the hundred gigabytes
        memory_bytes = _address_space_bytes() + allowance.memory_bytes
        limits[resource.RLIMIT_AS] = (memory_bytes, memory_bytes)
    for limit, (soft, hard) in limits.items():
        highest = resource.getrlimit(limit)[1]
        if highest != resource.RLIM_INFINITY:  # it may be lower already, and cannot be raised
            soft, hard = min(soft, highest), min(hard, highest)
        resource.setrlimit(limit, (soft, hard))


def die_with(parent_pid: int) -> None:
    """Be killed when the parent ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)  # it ended before we asked


def give_back_rights() -> None:
    """Let no program that is started have more rights, and keep none of root's but to read and write files."""
    landlock.gain_no_rights()
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, and the upper halves of each
    checked(libc().capget(header, held))
    # Root may read a person's video if it could before; which files at all, Landlock says.
    kept = held[1] & CAP_DAC_OVERRIDE
    checked(libc().capset(header, (ctypes.c_uint32 * 6)(kept, kept)))


def restrict_files(allowance: Allowance) -> None:
    """Leave only the files that the allowance names and Python's code; no TCP, no signals, no abstract sockets."""
    files, tcp, scopes = (landlock.known(rights) for rights in (FILE_RIGHTS, TCP_RIGHTS, SCOPES))
    with landlock.ruleset(files=files, tcp=tcp, scopes=scopes) as made:
        if allowance.read.is_file():  # where it is none, the reader says so
            landlock.allow_path(made, allowance.read, READ_FILE)
        landlock.allow_path(made, allowance.write, (WRITE_FILE | MAKE_REG | TRUNCATE) & files)
        for folder in _code_folders():
            with suppress(FileNotFoundError, PermissionError):  # then there is nothing to allow
                landlock.allow_path(made, folder, READ_FILE | READ_DIR)
        landlock.restrict_self(made)


def forbid_calls() -> None:
    """Make the system calls fail that a decoder has no use for."""
    instructions = _filter()
    program = _FilterProgram(len(instructions) // INSTRUCTION_BYTES, instructions)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program))


@cache
def _filter() -> bytes:
    """The program that refuses the forbidden calls, as the kernel runs it, made by libseccomp."""
    library = _seccomp()
    assert library is not None
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(SCMP_ACT_ALLOW)))
    try:
        for name in FORBIDDEN_CALLS:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number >= 0:  # an older library does not know the newest; not every architecture has all
                refuse = ctypes.c_uint32(SCMP_ACT_ERRNO | errno.EPERM)
                _refuse_negative(library.seccomp_rule_add_array(rules, refuse, number, 0, None))
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as program:
            with os.fdopen(writing, "wb"):
                _refuse_negative(library.seccomp_export_bpf(rules, writing))
            return program.read()
    finally:
        library.seccomp_release(rules)


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


@cache
def _code_folders() -> tuple[Path, ...]:
    """Where modules are imported from, late ones too: the environment, Python itself, and our own two packages."""
    root = Path(__file__).parents[3]
    paths = sysconfig.get_paths()
    installed = {Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return (*sorted(installed), root / "services", root / "shared")


def _refuse_negative(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@cache
def _seccomp() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL(SECCOMP_LIBRARY)
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    return library
