"""A small corpus of clips whose truth is known: moving shots over photographs that scikit-image and scikit-learn ship.

Every photograph comes back in three clips, each time with another crop, motion, exposure and colour temperature, so
that good clusters are photographs, and neither clips nor light. Cuts are hard but for every fourth, a dissolve.
"""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]  # (H, W, 3)

WIDTH_PX, HEIGHT_PX = 640, 360
FRAMES_PER_S = 24
APPEARANCES = 3  # of every photograph
SHOTS_PER_CLIP = 4  # 3 in the last clips, when the photographs do not come out even
MIN_SHOT_FRAMES, MAX_SHOT_FRAMES = 40, 56
DISSOLVE_EVERY = 4
HALF_DISSOLVE_FRAMES = 6
TRUTH = "corpus.json"

PHOTOS: Mapping[str, tuple[str, str]] = {  # name -> package and file in it
    "astronaut": ("skimage", "data/astronaut.png"),
    "bricks": ("skimage", "data/brick.png"),
    "cameraman": ("skimage", "data/camera.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "coins": ("skimage", "data/coins.png"),
    "dahlia": ("sklearn", "datasets/images/flower.jpg"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "grass": ("skimage", "data/grass.png"),
    "gravel": ("skimage", "data/gravel.png"),
    "handwriting": ("skimage", "data/text.png"),
    "moon": ("skimage", "data/moon.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "pagoda": ("sklearn", "datasets/images/china.jpg"),
    "print": ("skimage", "data/page.png"),
    "retina": ("skimage", "data/retina.jpg"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "tissue": ("skimage", "data/ihc.png"),
}


@dataclass(frozen=True)
class Shot:
    """What a clip shows in `[start_s, end_s)`. A dissolve belongs half to the shot before it, half to the one after."""

    start_s: float
    end_s: float
    photo: str


Corpus = Mapping[str, Sequence[Shot]]  # a clip's file name -> its shots in order


@dataclass(frozen=True)
class _View:
    """A 16:9 window on a photograph. x, y: where it lies in the room it leaves, 0 to 1; size: 1 is the widest."""

    x: float
    y: float
    size: float


@dataclass(frozen=True)
class _Take:
    """A shot to be rendered: the camera moves from one view to another, in one light."""

    photo: str
    start_frame: int
    end_frame: int
    dissolves_in: bool
    first_view: _View
    last_view: _View
    exposure: float
    warmth: float


def make_corpus(folder: Path, seed: int = 7) -> list[Path]:
    """Write the clips and `corpus.json` into `folder`, the same every time for one seed; returns the clips' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = {name: _load_photo(package, file) for name, (package, file) in PHOTOS.items()}
    clips = {f"clip-{i:02d}.mp4": takes for i, takes in enumerate(_plan(random.Random(seed)), start=1)}
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda item: _write_clip(folder / item[0], item[1], photos), clips.items()))
    truth = {
        file: [asdict(Shot(t.start_frame / FRAMES_PER_S, t.end_frame / FRAMES_PER_S, t.photo)) for t in takes]
        for file, takes in clips.items()
    }
    (folder / TRUTH).write_text(json.dumps({"seed": seed, "clips": truth}, indent=1) + "\n")
    return [folder / file for file in clips]


def load_corpus(folder: Path) -> Corpus:
    """The truth about the clips that `make_corpus` wrote into `folder`."""
    clips = json.loads((folder / TRUTH).read_text())["clips"]
    return {file: tuple(Shot(**shot) for shot in shots) for file, shots in clips.items()}


def truth_at(corpus: Corpus, clip: str, time_s: float) -> str:
    """The name of the photograph that the clip of this file name shows at `time_s`.

    Raises KeyError for a clip of another corpus, ValueError for a time outside the clip.
    """
    for shot in corpus[clip]:
        if shot.start_s <= time_s < shot.end_s:
            return shot.photo
    raise ValueError(f"{clip} ends before {time_s} s")


def _plan(rng: random.Random) -> list[list[_Take]]:
    """Which takes each clip consists of. No clip shows a photograph twice."""
    while True:
        shots = [photo for _ in range(APPEARANCES) for photo in rng.sample(sorted(PHOTOS), len(PHOTOS))]
        n_clips = -(-len(shots) // SHOTS_PER_CLIP)
        clips = [shots[i::n_clips] for i in range(n_clips)]
        if all(len(set(clip)) == len(clip) for clip in clips):
            return [_plan_clip(rng, clip) for clip in clips]


def _plan_clip(rng: random.Random, photos: Sequence[str]) -> list[_Take]:
    takes: list[_Take] = []
    frame = 0
    for photo in photos:
        end_frame = frame + rng.randint(MIN_SHOT_FRAMES, MAX_SHOT_FRAMES)
        takes.append(
            _Take(
                photo=photo,
                start_frame=frame,
                end_frame=end_frame,
                dissolves_in=bool(takes) and rng.randrange(DISSOLVE_EVERY) == 0,
                first_view=_any_view(rng),
                last_view=_any_view(rng),
                exposure=rng.uniform(0.7, 1.25),
                warmth=rng.uniform(-0.15, 0.15),
            )
        )
        frame = end_frame
    return takes


def _any_view(rng: random.Random) -> _View:
    # Not down to the lower edge: what a square photograph is of, it shows above.
    return _View(x=rng.random(), y=rng.uniform(0.0, 0.6), size=rng.uniform(0.65, 1.0))


def _load_photo(package: str, file: str) -> Rgb:
    """A photograph as RGB, no larger than the widest view can show: moving over more than that would shimmer."""
    from PIL import Image

    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None, f"{package} is not installed"
    with Image.open(Path(spec.origin).parent / file) as image:
        photo = image.convert("RGB")
    shrink = 1.2 * WIDTH_PX / min(photo.width, photo.height * WIDTH_PX / HEIGHT_PX)
    if shrink < 1:
        photo = photo.resize((round(photo.width * shrink), round(photo.height * shrink)), Image.Resampling.LANCZOS)
    return np.asarray(photo)


def _write_clip(path: Path, takes: Sequence[_Take], photos: Mapping[str, Rgb]) -> None:
    """H.264 in MP4. One encoder thread, because the number of threads shows in the bytes."""
    import av

    options = {"crf": "21", "preset": "superfast", "threads": "1"}
    with av.open(path, "w", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=FRAMES_PER_S, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        for index in range(takes[-1].end_frame):
            frame = av.VideoFrame.from_ndarray(_picture(takes, index, photos), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FRAMES_PER_S)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _picture(takes: Sequence[_Take], frame: int, photos: Mapping[str, Rgb]) -> Rgb:
    """What the clip shows at a frame: one take, or two of them around a dissolve."""
    import cv2

    now = next(take for take in takes if frame < take.end_frame)
    picture = _render(now, frame, photos[now.photo])
    for before, after in pairwise(takes):
        since_begin = frame - (after.start_frame - HALF_DISSOLVE_FRAMES)
        if after.dissolves_in and 0 <= since_begin < 2 * HALF_DISSOLVE_FRAMES:
            share = (since_begin + 0.5) / (2 * HALF_DISSOLVE_FRAMES)
            old, new = (_render(take, frame, photos[take.photo]) for take in (before, after))
            picture = np.asarray(cv2.addWeighted(new, share, old, 1 - share, 0), np.uint8)
    return picture


def _render(take: _Take, frame: int, photo: Rgb) -> Rgb:
    """One take at a frame, which may lie half a dissolve before or after the take."""
    import cv2

    length = take.end_frame - take.start_frame + 2 * HALF_DISSOLVE_FRAMES
    progress = (frame - take.start_frame + HALF_DISSOLVE_FRAMES) / length
    first, last = take.first_view, take.last_view
    size, x, y = (a + (b - a) * progress for a, b in ((first.size, last.size), (first.x, last.x), (first.y, last.y)))

    height_px, width_px = photo.shape[:2]
    view_width_px = size * min(width_px, height_px * WIDTH_PX / HEIGHT_PX)
    scale = view_width_px / WIDTH_PX
    left_px, top_px = x * (width_px - view_width_px), y * (height_px - scale * HEIGHT_PX)
    # Pixel centres: half a pixel in the clip is half a scaled pixel in the photograph.
    shift = 0.5 * (scale - 1)
    from_clip_to_photo = np.array([[scale, 0, left_px + shift], [0, scale, top_px + shift]])
    picture = cv2.warpAffine(
        photo,
        from_clip_to_photo,
        (WIDTH_PX, HEIGHT_PX),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(cv2.LUT(picture, _light(take)), np.uint8)


def _light(take: _Take) -> Rgb:
    """The take's exposure and colour temperature as a table from stored to shown values, (1, 256, 3)."""
    gains = take.exposure * np.array([1 + take.warmth, 1.0, 1 - take.warmth])
    table = np.arange(256)[:, None] * gains
    return np.clip(np.rint(table), 0, 255).astype(np.uint8)[None]
