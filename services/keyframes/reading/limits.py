"""What a video may ask of the decoder, and what to say where memory ran out."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

from av.error import FFmpegError

from shared.errors import ErrorKind, PermanentError

# Where less than this is to be had, memory is short. The largest frame that is allowed takes about as much.
LITTLE_MEMORY_BYTES = 256 * 2**20


@dataclass(frozen=True)
class DecodeLimits:
    """What a video may ask of the decoder; checked while reading.

    max_memory_bytes, max_cpu_s and max_wall_s hold in a process of its own only, see `services.keyframes.cell.decoder`.
    """

    max_duration_s: float = 6 * 3600.0
    max_frames: int = 2_000_000
    max_pixels: int = 8192 * 4352  # per frame: 8K with the rows that codecs add
    max_streams: int = 64
    max_memory_bytes: int = 4 * 2**30  # twice what 8K with 10 bits and 16 reference frames takes
    max_cpu_s: int = 6 * 3600
    max_wall_s: float = 12 * 3600.0


def refuse_if_memory_is_short(limits: DecodeLimits, error: FFmpegError) -> None:
    """Decoders call a frame damaged for which they get no memory, and say "no memory" of absurd sizes in damaged files.

    So what they say is not looked at: memory is asked for.
    """
    try:
        mmap.mmap(-1, LITTLE_MEMORY_BYTES).close()
    except OSError:
        raise out_of_memory(limits) from error


def out_of_memory(limits: DecodeLimits) -> PermanentError:
    """What to raise where memory ran out."""
    return PermanentError(
        ErrorKind.TOO_LARGE,
        f"The video takes more than the {limits.max_memory_bytes // 2**20:,} MiB of memory that are allowed for "
        "decoding. Send a version with smaller frames.",
    )


def pixel_limit(limits: DecodeLimits) -> dict[str, str]:
    # FFmpeg counts the padding of its buffers too, and calls what is larger damaged. The reader refuses exactly, and
    # says why; this bounds what is allocated before.
    return {"max_pixels": str(4 * limits.max_pixels)}
