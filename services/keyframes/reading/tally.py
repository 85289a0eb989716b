"""Counts what went into a decoder and what came out: garbage that decodes to a few pictures is no success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from av.video.frame import VideoFrame

from shared.errors import ErrorKind, PermanentError

# Where two frames in three are damaged, what is left says too little, and a part of it is noise that nobody noticed.
MAX_DAMAGED_SHARE = 2 / 3
# Packets of no more than this say "as before", which some decoders answer with no picture.
TRIVIAL_PACKET_BYTES = 64
# Of fewer packets than this nothing is concluded; of more, at least this share must give whole pictures. It is low
# because two packets may hold one picture, and because many codecs tell nothing of what they leave out.
MIN_PACKETS = 20
MIN_WHOLE_SHARE = 0.1


@dataclass(slots=True)
class Tally:
    """What came of the packets of one video so far.

    packets: that hold a picture. whole, corrupt: pictures without and with damage that the decoder saw. failed: packets
    that could not be decoded, since the first picture.
    """

    packets: int = 0
    whole: int = 0
    corrupt: int = 0
    failed: int = 0

    def count(self, packet_bytes: int, pictures: Sequence[VideoFrame], has_failed: bool) -> None:
        """Count one packet (0 bytes: the decoder was flushed) and what the decoder gave for it."""
        self.packets += packet_bytes > TRIVIAL_PACKET_BYTES
        for picture in pictures:
            if picture.is_corrupt:
                self.corrupt += 1
            else:
                self.whole += 1
        # Before the first picture lies what a recording that begins in the middle cannot show.
        self.failed += has_failed and self.whole + self.corrupt > 0

    def refuse_if_mostly_damaged(self) -> None:
        """Raise PermanentError(DAMAGED) where hardly anything is whole; videos damaged in spots are far from that."""
        damaged = self.corrupt + self.failed
        frames = damaged + self.whole
        if damaged > MAX_DAMAGED_SHARE * frames:
            raise _mostly_damaged(f"{damaged:,} of its {frames:,} frames are damaged or could not be decoded")
        if self.packets >= MIN_PACKETS and self.whole < MIN_WHOLE_SHARE * self.packets:
            raise _mostly_damaged(f"only {self.whole:,} whole frames came out of {self.packets:,} packets")


def _mostly_damaged(numbers: str) -> PermanentError:
    return PermanentError(
        ErrorKind.DAMAGED,
        f"The video is damaged for the most part: {numbers}. It was cut up, changed or encrypted on its way. Check "
        "that it plays, and send it again.",
    )
