"""What an export holds of each key frame, and under which name its picture goes. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

#: The part of a name that a person reads; the id behind it makes it unique.
MAX_WORDS = 60
#: Suffixes of files that are no words.
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{2,4}$")


@dataclass(frozen=True)
class Row:
    """One key frame as it is exported.

    title, source_url: of the first source that showed the video; None when that is gone.
    cluster: the label, -1 for noise; None where the export is of no clustering.
    distance: to the cluster's centroid in the space that was clustered; of a search, the cosine distance.
    picture: the JPEG's bytes, where the format asks for pictures.
    """

    key_frame_id: str
    video_id: str
    title: str | None
    source_url: str | None
    time_s: float
    frame_index: int
    width_px: int
    height_px: int
    cluster: int | None = None
    distance: float | None = None
    picture: bytes | None = None

    @property
    def file(self) -> str:
        """The picture's name: safe on every system, and no other key frame in the world has the same.

        Folders are those of clusters, as programs that learn from folders of pictures want them.
        """
        name = f"{words(self.video)}_{_clock(self.time_s)}_{self.key_frame_id.replace('-', '').lower()}.jpg"
        if self.cluster is None:
            return f"pictures/{name}"
        return f"pictures/{'noise' if self.cluster < 0 else f'cluster-{self.cluster:04}'}/{name}"

    @property
    def video(self) -> str:
        """What a person calls the video: its title, else the last part of its address."""
        if self.title:
            return self.title
        address = re.split("[?#]", self.source_url or "", maxsplit=1)[0]
        return unquote(address.rstrip("/").rpartition("/")[2], errors="replace") or self.video_id

    def values(self) -> Mapping[str, Any]:
        """What every format writes, by column, as plain values."""
        return {
            "file": self.file,
            "video": self.video,
            "source_url": self.source_url,
            "time_s": round(self.time_s, 6),
            "frame_index": self.frame_index,
            "cluster": self.cluster,
            "distance": None if self.distance is None else float(f"{self.distance:.7g}"),
            "width_px": self.width_px,
            "height_px": self.height_px,
            "video_id": self.video_id,
            "key_frame_id": self.key_frame_id,
        }


def words(text: str) -> str:
    """The text's letters and digits in ASCII with hyphens between them; `video` when there are none."""
    taken_apart = unicodedata.normalize("NFKD", _SUFFIX.sub("", text))
    plain = "".join(character for character in taken_apart if not unicodedata.combining(character))
    return re.sub(r"[^A-Za-z0-9]+", "-", plain)[:MAX_WORDS].strip("-") or "video"


def _clock(seconds: float) -> str:
    """`01h02m03.400s` without the dot, which not every system takes: `01h02m03s400`."""
    minutes, milliseconds = divmod(round(max(seconds, 0.0) * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    whole_s, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02}h{minutes:02}m{whole_s:02}s{milliseconds:03}"


#: The columns of `Row.values`, in their order.
COLUMNS = tuple(Row("", "", None, None, 0.0, 0, 0, 0).values())
