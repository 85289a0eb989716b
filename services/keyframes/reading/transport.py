"""The packets of an MPEG transport stream as they lie in a file: ISO/IEC 13818-1, 2.4.3."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

PACKET_BYTES = 188
# Plain, with the time of arrival before it, with parity behind it.
SPACINGS_BYTES = (188, 192, 204)
NULL_PID = 0x1FFF


def packets(data: bytes) -> NDArray[np.uint8]:
    """Return the packets in a part of a transport stream: uint8 (n, 188), none where there is no order."""
    for spacing in SPACINGS_BYTES:
        beginning = re.match(rb"(?s).{0,%d}?(?=(?:\x47.{%d}){4}\x47)" % (spacing - 1, spacing - 1), data)
        if beginning:
            first = beginning.end()
            count = (len(data) - first - PACKET_BYTES) // spacing + 1
            padded = data[first : first + count * spacing].ljust(count * spacing, b"\0")
            return np.frombuffer(padded, np.uint8).reshape(count, spacing)[:, :PACKET_BYTES]
    return np.empty((0, PACKET_BYTES), np.uint8)


def pids(packets: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return which stream each packet belongs to: int32 (n,)."""
    return (packets[:, 1].astype(np.int32) & 0x1F) << 8 | packets[:, 2]


def is_broken(packets: NDArray[np.uint8], first: int) -> bool:
    """Whether a packet from the `first` on says that its clock is set anew, or does not follow its predecessor.

    Packets are numbered within their stream; repeated ones and ones without content keep the number: 2.4.3.3, 2.4.3.5.
    """
    last: dict[int, int] = {}
    for index, (pid, flags, length, adaptation) in enumerate(
        zip(pids(packets).tolist(), *packets[:, 3:6].T.tolist(), strict=True)
    ):
        if pid == NULL_PID:
            continue
        has_adaptation, has_content, number = flags & 0x20, flags & 0x10, flags & 0x0F
        if index >= first:
            if has_adaptation and length and adaptation & 0x80:
                return True
            if has_content and number not in (last.get(pid, number), (last.get(pid, number) + 1) & 0x0F):
                return True
        if has_content:
            last[pid] = number
    return False
