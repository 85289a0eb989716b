"""Sends one decoded picture through filters of FFmpeg."""

from __future__ import annotations

from av.filter import Graph
from av.video.frame import VideoFrame


def filtered(picture: VideoFrame, *filters: tuple[str, str]) -> VideoFrame:
    """Return the picture after the filters, each its name and its arguments as `ffmpeg -vf` takes them."""
    graph = Graph()
    graph.threads = 1
    size, pixel_format = f"{picture.width}x{picture.height}", picture.format.name
    source = graph.add("buffer", f"video_size={size}:pix_fmt={pixel_format}:time_base=1/1")
    graph.link_nodes(source, *(graph.add(*one) for one in filters), graph.add("buffersink")).configure()
    graph.vpush(picture)
    return graph.vpull()
