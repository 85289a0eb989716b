"""The fence is put up in a process of its own, because there is no way back."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import socket, subprocess, sys
from shared.egress.tcp_fence import allow_tcp_only_to

allowed, other = int(sys.argv[1]), int(sys.argv[2])
if not allow_tcp_only_to(allowed):
    sys.exit("no fence here")

def outcome(act):
    try:
        act()
    except PermissionError:
        return "denied"
    return "done"

connect = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
child = subprocess.run([sys.executable, "-c", connect, str(other)], capture_output=True, text=True)
print(
    outcome(lambda: socket.create_connection(("127.0.0.1", allowed))),
    outcome(lambda: socket.create_connection(("127.0.0.1", other))),
    outcome(lambda: socket.create_server(("127.0.0.1", 0))),
    "denied" if "PermissionError" in child.stderr else "done",
)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")
def test_one_port_may_be_connected_to_and_no_other_also_not_by_children() -> None:
    with socket.create_server(("127.0.0.1", 0)) as allowed, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [str(listener.getsockname()[1]) for listener in (allowed, other)]
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, *ports], capture_output=True, text=True, cwd=Path(__file__).parents[4]
        )
        if "no fence here" in run.stderr:
            pytest.skip("this kernel has no Landlock for TCP")
        assert run.stdout.split() == ["done", "denied", "denied", "denied"], run.stderr
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()
