"""Let this process, and all it starts, open TCP connections to one port only. The kernel holds it: Landlock, Linux 6.7.

A second wall behind the egress proxy, for code that would not ask the proxy. Landlock knows ports and not addresses,
and neither UDP nor sockets in the file system. Where the kernel has none of it, the proxy stands alone, and
`missing_fence` says so.
"""

from __future__ import annotations

from shared import landlock
from shared.landlock import CONNECT_TCP, TCP_RIGHTS


def missing_fence() -> str | None:
    """What this machine cannot do to fence yt-dlp in, as a sentence."""
    if landlock.known(TCP_RIGHTS):
        return None
    return (
        "This kernel has no Landlock for TCP: nothing but the egress proxy keeps yt-dlp from other servers "
        "(Linux 6.7 or newer has it)."
    )


def allow_tcp_only_to(port: int) -> bool:
    """From now on, connect to this port only and listen on none; False where the kernel cannot hold it.

    Binds the calling thread and what it starts afterwards, so it has to come before the first thread. There is no way
    back.
    """
    if missing_fence():
        return False
    with landlock.ruleset(tcp=landlock.known(TCP_RIGHTS)) as made:
        landlock.allow_port(made, port, CONNECT_TCP)
        landlock.gain_no_rights()
        landlock.restrict_self(made)
    return True
