"""Turns one video file into JPEG key frames and a description of the whole, in one pass with bounded memory."""

from __future__ import annotations

import errno
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.keyframes import strategies
from services.keyframes.choosing.scores import Scores
from services.keyframes.choosing.selection import Outline, Pick
from services.keyframes.choosing.shots import Shot
from services.keyframes.reading.frames import VideoFacts, VideoReader
from services.keyframes.reading.limits import DecodeLimits
from services.keyframes.reading.pictures import longest_side_px, rgb
from shared.catalog import DEFAULT_STRATEGY
from shared.errors import ErrorKind, PermanentError, TransientError
from shared.parameters import BadParameter, make
from shared.pictures import SMALL_PICTURE_PX

# Part of the recipe: a change of these makes other pictures. The version counts the ways in which decoded frames were
# brought to the screen.
PICTURE_VERSION = 2
# Models see one of this size, whatever people keep.
ANALYSIS_PX = 960
PICTURE_QUALITY = 90
SMALL_PICTURE_QUALITY = 85


@dataclass(frozen=True)
class KeyFrame:
    """A chosen frame, written as two or three JPEG files.

    file: as large as was asked for, of size width_px x height_px. small_file: longest side <= 320 px.
    analysis_file: what models see, longest side <= 960 px; None when that is `file`.
    repeats: later time ranges [start_s, end_s) that look the same and have no key frame of their own.
    """

    frame_index: int
    time_s: float
    pts: int | None
    shot_index: int
    file: Path
    small_file: Path
    width_px: int
    height_px: int
    repeats: tuple[tuple[float, float], ...]
    analysis_file: Path | None = None


@dataclass(frozen=True)
class Extraction:
    """What a video holds. duration_s: when its last frame ends. shots: in order, from the first frame to the last."""

    frames: int
    duration_s: float
    facts: VideoFacts
    shots: tuple[Shot, ...]
    key_frames: tuple[KeyFrame, ...]
    damaged_packets: int

    @property
    def reduction(self) -> float:
        """The share of frames that are not key frames."""
        return 1 - len(self.key_frames) / self.frames

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`; paths become strings."""
        data = asdict(self)
        for key_frame in data["key_frames"]:
            key_frame["file"] = str(key_frame["file"])
            key_frame["small_file"] = str(key_frame["small_file"])
            key_frame["analysis_file"] = key_frame["analysis_file"] and str(key_frame["analysis_file"])
        return {**data, "reduction": self.reduction}


def strategy_names() -> list[str]:
    """Return the names of all strategies, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(strategies.__path__))


def load_strategy(name: str) -> ModuleType:
    """Return the strategy's module. Raises PermanentError(BAD_PARAMETERS) when there is none of that name."""
    if name not in strategy_names():
        raise PermanentError(
            ErrorKind.BAD_PARAMETERS, f"There is no key-frame strategy {name!r}. Choose one of {strategy_names()}."
        )
    return importlib.import_module(f"{strategies.__name__}.{name}")


def make_parameters(strategy: ModuleType, values: Mapping[str, Any]) -> Any:
    """Return strategy.Parameters with `values` over its defaults.

    Raises PermanentError(BAD_PARAMETERS), naming the parameter, where one is unknown, of a wrong type or out of range.
    """
    name = f"strategy {strategy.__name__.rpartition('.')[2]}"
    try:
        return make(strategy.Parameters, values, "it")
    except BadParameter as error:
        raise PermanentError(ErrorKind.BAD_PARAMETERS, f"{name}: {error}.") from error


def extract(
    path: Path | str,
    out_dir: Path | str,
    strategy: str = DEFAULT_STRATEGY,
    parameters: Mapping[str, Any] | None = None,
    limits: DecodeLimits | None = None,
    picture_px: int | None = ANALYSIS_PX,
    with_scores: bool = False,
) -> Extraction:
    """Choose key frames of the video at `path` and write them into `out_dir`, each as soon as it is decided.

    picture_px: the longest side of the pictures, which are never enlarged; None for as large as the video is.
    with_scores: also write `scores_file(out_dir)`, a line of CSV per frame that says why a cut was found there or not.
    Every video with a readable frame yields a key frame, whatever the strategy. Raises PermanentError for what is wrong
    with the file or the parameters, TransientError when the disk is full.
    """
    module = load_strategy(strategy)
    chosen = make_parameters(module, parameters or {})
    if with_scores and not module.HAS_SCORES:
        able = [name for name in strategy_names() if load_strategy(name).HAS_SCORES]
        raise PermanentError(
            ErrorKind.BAD_PARAMETERS,
            f"The strategy {strategy!r} does not compare frames, so there are no scores of it. Choose one of {able}.",
        )
    scores = Scores() if with_scores else None
    out_dir = Path(out_dir)
    try:
        return _extract(VideoReader(path, limits, module.I_FRAMES_ONLY), out_dir, module, chosen, picture_px, scores)
    except PermanentError as error:
        if not (module.I_FRAMES_ONLY and error.kind is ErrorKind.DAMAGED):
            raise
        # No I-frame can be read: they are damaged, or the file starts after its only one.
        return _extract(VideoReader(path, limits), out_dir, module, chosen, picture_px, scores)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise TransientError(
            ErrorKind.DISK_FULL, "The disk is full, so the key frames could not be written. Free some space."
        ) from error


def _extract(
    reader: VideoReader,
    out_dir: Path,
    strategy: ModuleType,
    parameters: Any,
    picture_px: int | None,
    scores: Scores | None,
) -> Extraction:
    out_dir.mkdir(parents=True, exist_ok=True)
    outline = Outline(shots=(), repeats={})

    def picks() -> Iterator[Pick]:
        nonlocal outline
        told = {"scores": scores} if scores else {}
        outline = yield from strategy.select(iter(reader), parameters, **told)

    with reader:
        written = [_write(pick, reader.claimed_pixel_aspect, out_dir, picture_px) for pick in picks()]
    if not written:
        raise PermanentError(
            ErrorKind.INTERNAL,
            f"The strategy {strategy.__name__!r} chose none of {reader.frames_read} frames, which is a defect of ours. "
            "Choose another strategy.",
        )
    shots = _cover(outline.shots, reader.frames_read, reader.end_s)
    if scores:
        scores.write(scores_file(out_dir), shots, {key_frame.frame_index for key_frame in written})
    return Extraction(
        frames=reader.frames_read,
        duration_s=reader.end_s,
        facts=reader.facts,
        shots=shots,
        key_frames=tuple(
            replace(key_frame, repeats=tuple(outline.repeats.get(key_frame.frame_index, ())))
            for key_frame in sorted(written, key=lambda key_frame: key_frame.frame_index)
        ),
        damaged_packets=reader.damaged_packets,
    )


def _cover(shots: tuple[Shot, ...], frames: int, end_s: float) -> tuple[Shot, ...]:
    """Stretch the first and the last shot to the video's ends, of which a strategy may have seen no decoded frame."""
    first_covered = (replace(shots[0], start_frame=0, start_s=0.0), *shots[1:])
    return (*first_covered[:-1], replace(first_covered[-1], end_frame=frames, end_s=end_s))


def _write(pick: Pick, claimed_pixel_aspect: float | None, out_dir: Path, picture_px: int | None) -> KeyFrame:
    frame = pick.frame
    seen = rgb(frame.picture, frame.orientation, ANALYSIS_PX, claimed_pixel_aspect)
    file, small_file, analysis_file = picture_files(out_dir, frame.index)
    longest_px = longest_side_px(frame.picture, claimed_pixel_aspect)
    kept_px = min(longest_px, picture_px or longest_px)
    is_seen = kept_px == min(longest_px, ANALYSIS_PX)
    picture = seen if is_seen else rgb(frame.picture, frame.orientation, kept_px, claimed_pixel_aspect)
    file.write_bytes(_jpeg(picture, PICTURE_QUALITY))
    small_file.write_bytes(_jpeg(_shrink(seen, SMALL_PICTURE_PX), SMALL_PICTURE_QUALITY))
    if not is_seen:
        analysis_file.write_bytes(_jpeg(seen, PICTURE_QUALITY))
    height_px, width_px = picture.shape[:2]
    return KeyFrame(
        frame_index=frame.index,
        time_s=frame.time_s,
        pts=frame.pts,
        shot_index=pick.shot_index,
        file=file,
        small_file=small_file,
        width_px=width_px,
        height_px=height_px,
        repeats=(),
        analysis_file=None if is_seen else analysis_file,
    )


def picture_files(out_dir: Path, frame_index: int) -> tuple[Path, Path, Path]:
    """Where the picture of a key frame, its small copy, and what models see are written."""
    name = f"{frame_index:07d}"
    return out_dir / f"{name}.jpg", out_dir / f"{name}_small.jpg", out_dir / f"{name}_analysis.jpg"


def scores_file(out_dir: Path) -> Path:
    """Where the scores of all frames are written."""
    return out_dir / "scores.csv"


def _shrink(picture: NDArray[np.uint8], max_px: int) -> NDArray[np.uint8]:
    """Return the uint8 (H, W, 3) picture with its longest side <= max_px."""
    height, width = picture.shape[:2]
    scale = max_px / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """Encode uint8 (H, W, 3) RGB as JPEG."""
    is_encoded, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not is_encoded:
        raise ValueError(f"OpenCV cannot write a picture of shape {picture.shape} as JPEG")
    return encoded.tobytes()
