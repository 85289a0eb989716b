"""Frames come back all, in order, at their exact times and upright, out of good, odd and broken files."""

from __future__ import annotations

import errno
import gc
import json
import shutil
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, ColorTrc

from services.keyframes.reading import opening
from services.keyframes.reading.frames import Frame, VideoReader
from services.keyframes.reading.limits import DecodeLimits
from services.keyframes.reading.pictures import rgb
from shared.errors import ErrorKind, PermanentError

Read = tuple[VideoReader, list[Frame]]


def as_seen(frame: Frame, reader: VideoReader, max_px: int = 960) -> np.ndarray:
    return rgb(frame.picture, frame.orientation, max_px, reader.claimed_pixel_aspect)


def read(path: Path, limits: DecodeLimits | None = None, i_frames_only: bool = False) -> Read:
    with VideoReader(path, limits, i_frames_only) as reader:
        return reader, list(reader)


def times(frames: list[Frame]) -> list[float]:
    return [frame.time_s for frame in frames]


def numbers(frames: list[Frame], reader: VideoReader, number_of) -> list[int]:
    return [number_of(as_seen(frame, reader)) for frame in frames]


def refusal(path: Path, **limits: float) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        read(path, DecodeLimits(**limits))
    return caught.value


def quarters(picture: np.ndarray) -> list[str]:
    """The names of the colours of the four quarters, row by row."""
    height, width = picture.shape[:2]
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (0, 0, 0): "black"}
    found = [picture[y, x] for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    assert all(((pixel < 25) | (pixel > 230)).all() for pixel in found), f"colours are off: {found}"
    return [names[tuple((pixel > 128).astype(int))] for pixel in found]


FORMATS = {
    "h264 with B frames in MP4": {"name": "a.mp4", "options": {"bf": "3", "g": "12"}},
    "h264 with B frames in AVI, which has no presentation times": {"name": "a.avi", "options": {"bf": "3", "g": "12"}},
    "h264 with B frames in MPEG-TS": {"name": "a.ts", "options": {"bf": "3", "g": "12"}},
    "h264 with open groups in MKV": {"name": "a.mkv", "options": {"x264-params": "open-gop=1:bframes=3:keyint=12"}},
    "raw h264 without any timestamp": {"name": "a.h264", "container": "h264", "options": {"bf": "0", "g": "12"}},
    "vp9 in WebM": {"name": "a.webm", "codec": "libvpx-vp9", "options": {"g": "12", "deadline": "realtime"}},
    "vp8 in WebM without a duration": {
        "name": "a.webm",
        "codec": "libvpx",
        "options": {"g": "12", "deadline": "realtime", "cpu-used": "8"},
        "container_options": {"live": "1"},
    },
    "mpeg-4 in AVI": {"name": "a.avi", "codec": "mpeg4", "options": {"g": "12"}},
    "mpeg-2 with B frames in MPEG-PS": {"name": "a.mpg", "codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "ffv1 4:4:4 in MKV": {"name": "a.mkv", "codec": "ffv1", "pixel_format": "yuv444p"},
    "prores 10-bit in MOV": {"name": "a.mov", "codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "h264 10-bit in MP4": {"name": "a.mp4", "pixel_format": "yuv420p10le", "options": {"g": "12"}},
    "an MP4 called WebM": {"name": "a.webm", "container": "mp4", "options": {"g": "12"}},
    "a name with spaces and a quote": {"name": "it's a cat: 100%.mp4", "options": {"g": "12"}},
}


@pytest.mark.parametrize("settings", FORMATS.values(), ids=FORMATS.keys())
def test_every_frame_comes_in_order_at_its_time(settings, write_video, numbered_pictures, number_of) -> None:
    path = write_video(numbered_pictures(40), **settings)

    reader, frames = read(path)

    assert numbers(frames, reader, number_of) == list(range(40))
    assert [frame.index for frame in frames] == list(range(40))
    assert times(frames) == pytest.approx([index / 25 for index in range(40)], abs=1e-9)
    assert reader.end_s == pytest.approx(1.6)
    assert (reader.frames_read, reader.damaged_packets) == (40, 0)


@pytest.mark.parametrize("settings", FORMATS.values(), ids=FORMATS.keys())
def test_i_frames_alone_have_the_index_and_time_of_the_full_reading(
    settings, write_video, numbered_pictures, number_of
) -> None:
    path = write_video(numbered_pictures(40), **settings)
    full_reader, full = read(path)

    reader, frames = read(path, i_frames_only=True)

    assert frames[0].index == 0
    assert len(frames) >= 2
    assert numbers(frames, reader, number_of) == [frame.index for frame in frames]
    assert times(frames) == [full[frame.index].time_s for frame in frames]
    assert all(frame.is_i_frame for frame in frames)
    assert (reader.frames_read, reader.end_s) == (full_reader.frames_read, full_reader.end_s)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_variable_frame_rate_keeps_every_time(name, write_video, numbered_pictures) -> None:
    ticks = [0, 40, 120, 130, 400, 1000]
    path = write_video(numbered_pictures(6), name, ticks=ticks, time_base=Fraction(1, 1000), options={"bf": "0"})

    _, frames = read(path)

    assert times(frames) == [tick / 1000 for tick in ticks]


def test_a_stream_that_starts_late_is_timed_from_its_start(write_video, numbered_pictures) -> None:
    path = write_video(numbered_pictures(5), ticks=range(50, 55))

    reader, frames = read(path)

    assert times(frames) == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert reader.end_s == pytest.approx(0.2)


def test_a_broadcast_cut_in_the_middle_of_a_group_begins_with_its_first_whole_picture(
    write_video, numbered_pictures, number_of, tmp_path
) -> None:
    path = write_video(numbered_pictures(60), "a.ts", options={"g": "20", "bf": "0"})
    packets = path.read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(packets[188 * 20 :])

    reader, frames = read(cut)

    shown = numbers(frames, reader, number_of)
    assert shown == list(range(shown[0], 60))
    assert shown[0] % 20 == 0
    steps = np.diff(times(frames))
    assert steps == pytest.approx(0.04)


def test_a_file_with_one_frame_has_one_frame(write_video, numbered_pictures) -> None:
    reader, frames = read(write_video(numbered_pictures(1)))

    assert times(frames) == [0.0]
    assert reader.end_s == pytest.approx(0.04)


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_a_picture_is_turned_upright(rotation_deg, is_mirrored, write_video, corner_picture) -> None:
    path = write_video([corner_picture] * 3, rotation_deg=rotation_deg, is_mirrored=is_mirrored)

    reader, frames = read(path)
    picture = as_seen(frames[0], reader)

    # FFmpeg mirrors what it has turned: libavutil/display.h, av_display_matrix_flip.
    turned = np.rot90(corner_picture, rotation_deg // 90)
    expected = quarters(np.ascontiguousarray(turned)[:, :: -1 if is_mirrored else 1])
    assert quarters(picture) == expected
    assert picture.shape[:2] == (reader.facts.height_px, reader.facts.width_px) == turned.shape[:2]
    if not is_mirrored:  # half a turn and mirroring have no reading of their own
        assert reader.facts.rotation_deg == -rotation_deg % 360


@pytest.mark.parametrize("rotation_deg", [90, 180, 270])
def test_a_picture_is_turned_as_another_reader_turns_it(rotation_deg, write_video, corner_picture) -> None:
    path = write_video([corner_picture] * 3, rotation_deg=rotation_deg)
    reader, frames = read(path)

    capture = cv2.VideoCapture(str(path))
    is_read, bgr = capture.read()
    capture.release()

    assert is_read
    assert quarters(as_seen(frames[0], reader)) == quarters(bgr[:, :, ::-1])


def test_pixels_that_are_not_square_are_made_square(write_video, corner_picture) -> None:
    reader, frames = read(write_video([corner_picture] * 3, pixel_aspect=Fraction(16, 11)))

    assert as_seen(frames[0], reader).shape == (96, 233, 3)
    assert (reader.facts.width_px, reader.facts.height_px) == (233, 96)
    assert as_seen(frames[0], reader, 100).shape == (41, 100, 3)


def test_a_turned_picture_with_wide_pixels_is_stretched_before_it_is_turned(write_video, corner_picture) -> None:
    path = write_video([corner_picture] * 3, pixel_aspect=Fraction(2, 1), rotation_deg=90)

    reader, frames = read(path)

    assert as_seen(frames[0], reader).shape == (320, 96, 3)
    assert (reader.facts.width_px, reader.facts.height_px) == (96, 320)


@pytest.mark.parametrize(
    ("width", "height", "colorspace"), [(160, 96, Colorspace.ITU601), (1280, 720, Colorspace.ITU709)]
)
def test_colours_without_a_label_are_read_by_the_pictures_height(
    width, height, colorspace, write_video, corner_picture
) -> None:
    picture = cv2.resize(corner_picture, (width, height), interpolation=cv2.INTER_NEAREST)

    reader, frames = read(write_video([picture] * 2, colorspace=colorspace))

    assert quarters(as_seen(frames[0], reader)) == [
        "red",
        "green",
        "blue",
        "black",
    ]


@pytest.mark.parametrize(("transfer", "signal"), [(ColorTrc.SMPTE2084, 0.58), (ColorTrc.ARIB_STD_B67, 0.75)])
def test_white_paper_in_hdr_is_white(transfer, signal, write_video) -> None:
    """ITU-R BT.2408: diffuse white lies at 58 % of the PQ signal and at 75 % of the HLG signal."""
    paper = np.full((96, 160, 3), round(255 * signal), np.uint8)
    path = write_video(
        [paper] * 2,
        "a.mp4",
        pixel_format="yuv420p10le",
        transfer=transfer,
        colorspace=Colorspace.BT2020,
    )

    reader, frames = read(path)

    assert frames[0].picture.color_trc == transfer
    assert as_seen(frames[0], reader)[48, 80].min() > 190


def test_one_field_of_an_interlaced_picture_is_shown(write_video) -> None:
    combed = np.zeros((96, 160, 3), np.uint8)
    combed[0::2, :80] = 255
    combed[1::2, 80:] = 255
    path = write_video([combed] * 3, options={"x264-params": "interlaced=1:qp=1"})

    reader, frames = read(path)
    picture = as_seen(frames[0], reader)

    assert frames[0].picture.interlaced_frame
    assert picture.shape == (96, 160, 3)
    assert picture[4:-4, 8:72].min() > 220
    assert picture[4:-4, 88:152].max() < 30


@pytest.mark.parametrize("size", [(2, 2), (16, 4), (4, 480), (1000, 2)])
def test_tiny_and_thin_pictures_are_readable(size, write_video) -> None:
    width, height = size

    reader, frames = read(write_video([np.full((height, width, 3), 200, np.uint8)] * 2))
    picture = as_seen(frames[0], reader, 320)

    assert max(picture.shape[:2]) <= 320
    assert min(picture.shape[:2]) >= 1
    assert picture.min() > 180


def test_a_file_damaged_in_forty_spots_gives_nearly_all_frames(write_video, damage, texture_of) -> None:
    drifting = (texture_of(index // 60, width=400)[:, index % 60 * 2 :][:, :160] for index in range(600))
    path = damage(write_video(drifting, options={"g": "25", "preset": "ultrafast"}), spots=40)

    reader, frames = read(path)

    assert len(frames) >= 590
    assert times(frames) == sorted(set(times(frames)))
    assert reader.damaged_packets > 0 or any(frame.is_corrupt for frame in frames)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv", "a.ts", "a.avi"])
def test_half_a_file_gives_the_frames_it_holds(name, write_video, texture_of, tmp_path) -> None:
    codec = "libvpx" if name == "a.webm" else "libx264"
    whole = write_video(
        (texture_of(index) for index in range(100)),
        name,
        codec=codec,
        options={"g": "10", "deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else {"g": "10", "bf": "0"},
        container_options={"movflags": "+faststart"} if name == "a.mp4" else None,
    )
    half = tmp_path / f"half_{name}"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])

    reader, frames = read(half)

    assert 30 <= len(frames) <= 70
    assert times(frames) == pytest.approx([index / 25 for index in range(len(frames))])
    assert reader.end_s == pytest.approx(len(frames) / 25)


def test_half_an_mp4_whose_index_lies_at_its_end_is_damaged(write_video, texture_of, tmp_path) -> None:
    whole = write_video(texture_of(index) for index in range(20))
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])

    error = refusal(half)

    assert error.kind is ErrorKind.DAMAGED
    assert "cut off" in error.message


def test_a_video_whose_sound_is_broken_is_read(write_video, numbered_pictures, tmp_path) -> None:
    path = tmp_path / "broken_sound.mkv"
    video = write_video(numbered_pictures(20))
    with av.open(str(video)) as source, av.open(str(path), "w") as output:
        pictures = output.add_stream_from_template(source.streams.video[0])
        sound = output.add_stream("aac", rate=44_100, layout="mono")
        for packet in source.demux(video=0):
            if packet.size:
                noise = av.Packet(bytes(range(200)))
                noise.stream, noise.pts, noise.dts = sound, packet.pts, packet.dts
                noise.time_base = packet.time_base
                packet.stream = pictures
                output.mux([packet, noise])

    reader, frames = read(path)

    assert len(frames) == 20
    assert reader.facts.has_audio
    assert reader.damaged_packets == 0


def test_files_that_are_no_videos_are_told_so(write_video, texture_of, tmp_path) -> None:
    encoded = {
        extension: cv2.imencode(f".{extension}", texture_of(1))[1].tobytes() for extension in ("jpg", "png", "webp")
    }
    contents = {
        **encoded,
        "avif": write_video([texture_of(1)], "a.avif", codec="libsvtav1").read_bytes(),
        "gif": write_video([texture_of(1)], "a.gif", codec="gif", pixel_format="rgb8").read_bytes(),
        "html": b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>" * 20,
        "text": b"The quick brown fox jumps over the lazy dog.\n" * 200,
        "subtitles": b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n" * 20,
        "noise": np.random.default_rng(0).bytes(50_000),
        "one byte": b"x",
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(content)
        error = refusal(path)
        assert (name, error.kind) == (name, ErrorKind.NOT_A_VIDEO)
        assert "not a video" in error.message


def test_an_archive_is_not_a_video(tmp_path) -> None:
    path = tmp_path / "archive.mp4"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x" * 1000)

    assert refusal(path).kind is ErrorKind.NOT_A_VIDEO


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile '{video}'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{video}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    ],
    ids=["concat", "HLS", "SDP"],
)
def test_a_playlist_that_names_other_files_is_refused(playlist, write_video, numbered_pictures, tmp_path) -> None:
    path = tmp_path / "playlist.mp4"
    path.write_text(playlist.format(video=write_video(numbered_pictures(5))))

    assert refusal(path).kind is ErrorKind.NOT_A_VIDEO


def test_sound_alone_has_no_video(write_sound) -> None:
    assert refusal(write_sound("a.mp4")).kind is ErrorKind.NO_VIDEO_STREAM
    assert refusal(write_sound("a.mp3", codec="libmp3lame")).kind is ErrorKind.NO_VIDEO_STREAM


def test_a_song_with_a_cover_has_no_video(write_sound, texture_of) -> None:
    path = write_sound("a.mp3", codec="libmp3lame", cover=texture_of(3))

    assert refusal(path).kind is ErrorKind.NO_VIDEO_STREAM


def test_an_empty_file_is_empty(tmp_path) -> None:
    path = tmp_path / "a.mp4"
    path.touch()

    assert refusal(path).kind is ErrorKind.EMPTY


def test_a_missing_file_and_a_folder_are_named(tmp_path) -> None:
    missing, folder = refusal(tmp_path / "none.mp4"), refusal(tmp_path)

    assert missing.kind is ErrorKind.NOT_FOUND
    assert "none.mp4" in missing.message
    assert folder.kind is ErrorKind.NOT_A_VIDEO


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_video_of_no_frames_is_refused(name, write_video) -> None:
    assert refusal(write_video([], name)).kind in {ErrorKind.DAMAGED, ErrorKind.NO_VIDEO_STREAM}


def test_a_codec_nobody_knows_is_refused_with_what_to_do(write_video, numbered_pictures) -> None:
    path = write_video(numbered_pictures(5))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))

    error = refusal(path)

    assert error.kind is ErrorKind.DAMAGED
    assert "Convert it" in error.message


def test_a_stream_that_appears_late_does_not_end_the_reading(
    write_video, write_sound, numbered_pictures, tmp_path
) -> None:
    film = write_video(numbered_pictures(300), "film.ts", rate_hz=25).read_bytes()
    path = tmp_path / "late.ts"
    path.write_bytes(film + write_sound("sound.ts").read_bytes() + film)

    assert len(read(path)[1]) >= 599  # the sound has the film's PID, which may cost the picture before it


def test_a_place_where_nobody_can_read_is_an_answer(three_shots) -> None:
    with three_shots.open("rb", buffering=0) as file:
        source = opening._Input(file)

        assert source.seek(-1) == -errno.EINVAL
        assert source.seek(8) == source.tell() == 8


def test_limits_hold(write_video, numbered_pictures, tmp_path) -> None:
    path = write_video(numbered_pictures(50))

    assert refusal(path, max_duration_s=1.0).kind is ErrorKind.TOO_LONG
    assert refusal(path, max_frames=20).kind is ErrorKind.TOO_LONG
    assert refusal(path, max_pixels=159 * 96).kind is ErrorKind.TOO_LARGE
    assert refusal(path, max_streams=0).kind is ErrorKind.TOO_LARGE
    assert len(read(path, DecodeLimits(max_duration_s=2.0, max_frames=50, max_pixels=160 * 96))[1]) == 50


def test_the_duration_limit_holds_where_the_header_is_silent(write_video, numbered_pictures) -> None:
    path = write_video(numbered_pictures(50), "a.h264", container="h264")

    assert refusal(path, max_duration_s=1.0).kind is ErrorKind.TOO_LONG


def test_pictures_may_grow_within_a_stream_up_to_the_limit(write_video, texture_of, tmp_path) -> None:
    small, large = (
        write_video((texture_of(1, *size) for _ in range(10)), f"{size[0]}.h264", container="h264", options={"bf": "0"})
        for size in ((160, 96), (176, 96))
    )
    path = tmp_path / "growing.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())

    reader, frames = read(path)
    sizes = [as_seen(frame, reader).shape[:2] for frame in frames]

    assert sizes == [(96, 160)] * 10 + [(96, 176)] * 10
    assert refusal(path, max_pixels=160 * 96).kind is ErrorKind.TOO_LARGE


def test_a_reader_that_was_left_gives_no_more_frames(write_video, numbered_pictures) -> None:
    with VideoReader(write_video(numbered_pictures(5))) as reader:
        next(iter(reader))

    assert list(reader) == []


def test_pictures_are_given_back_without_the_garbage_collector(write_video, numbered_pictures) -> None:
    alive = []
    gc.collect()
    gc.disable()
    try:
        with VideoReader(write_video(numbered_pictures(40))) as reader:
            for frame in reader:
                as_seen(frame, reader, 320)
                pixels = (thing.width * thing.height for thing in gc.get_objects() if type(thing) is VideoFrame)
                alive.append(sum(pixels))
    finally:
        gc.enable()

    assert 160 * 96 <= max(alive) <= 10 * 160 * 96


@pytest.mark.data
def test_annotated_clips_have_as_many_frames_as_their_annotation_says(data_dir) -> None:
    truth = json.loads((data_dir / "videos" / "ground_truth.json").read_text())
    short = {name: clip["frames"] for name, clip in truth.items() if clip["frames"] <= 720}

    assert {name: len(read(data_dir / "videos" / name)[1]) for name in short} == short


# name: (frames, time of the second and of the last frame, displayed size, rotation)
ODD_CLIPS = {
    "av1_black.mkv": (125, 0.04, 4.96, (640, 360), 0),
    "big_buck_bunny_opening.h264": (720, 1 / 24, 719 / 24, (854, 480), 0),
    "broken_audio_track.mp4": (300, 0.1, 29.9, (400, 240), 0),
    "cooking_wrong_extension.webm": (150, 0.0333667, 4.9716333, (640, 360), 0),
    "craft_documentary_anamorphic.mp4": (628, 0.04, 25.08, (1024, 576), 0),
    "delayed_start.mp4": (24, 0.04, 0.92, (480, 320), 0),
    "film_vfr.mp4": (160, 0.0417083, 9.9265833, (1280, 544), 0),
    "hevc_10bit.mp4": (30, 1 / 30, 29 / 30, (200, 200), 0),
    "no_duration.webm": (74, 0.067, 4.872, (1280, 720), 0),
    "orangutan.mp4": (134, 0.04, 5.32, (640, 360), 0),
    "phone_rotated_180.mp4": (25, 0.1, 2.2798444, (1280, 720), 180),
    "sea.avi": (152, 0.0333667, 5.0383667, (640, 360), 0),
    "sea.wmv": (153, 0.033, 5.072, (640, 360), 0),
    "turtle_vp6.flv": (174, 0.1, 17.3, (112, 80), 0),
}


@pytest.mark.data
@pytest.mark.parametrize("name", ODD_CLIPS)
def test_odd_clips_are_read_with_the_right_times(name, data_dir) -> None:
    count, second_s, last_s, size, rotation_deg = ODD_CLIPS[name]

    reader, frames = read(data_dir / "videos" / name)

    assert len(frames) == count
    assert times(frames)[0] == 0
    assert (times(frames)[1], times(frames)[-1]) == pytest.approx((second_s, last_s), abs=1e-6)
    assert (reader.facts.width_px, reader.facts.height_px, reader.facts.rotation_deg) == (*size, rotation_deg)
    assert reader.damaged_packets == 0


def test_a_copy_under_another_name_reads_the_same(write_video, numbered_pictures, tmp_path) -> None:
    path = write_video(numbered_pictures(10))
    copy = shutil.copy(path, tmp_path / "no_extension")

    assert times(read(path)[1]) == times(read(Path(copy))[1])
