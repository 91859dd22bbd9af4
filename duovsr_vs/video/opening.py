"""Opening an input: its container, its packet table, its decoder; errors become sentences."""

from __future__ import annotations

from typing import Any

import av

from ..errors import VideoError
from .probe import Scan, scan
from .stdin import StdinPipe


def decoder_of(stream: Any) -> Any:
    """The stream's decoder; libvpx for VP9 with alpha, which libav's own decoder does not see."""
    context = stream.codec_context
    if context.name != "vp9" or stream.metadata.get("alpha_mode") != "1" or "libvpx-vp9" not in av.codecs_available:
        return context
    decoder: Any = av.CodecContext.create("libvpx-vp9", "r")
    decoder.thread_count = context.thread_count
    for name in ("color_primaries", "color_trc", "chroma_sample_location"):
        setattr(decoder, name, getattr(context, name))
    return decoder


def guarded_scan(source: str, opening: dict[str, Any]) -> Scan:
    """The packet table of an input that can be read twice. Raises VideoError in words."""
    try:
        return scan(source, **_local(opening))
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        raise _open_error(source, error) from None


def open_input(source: str, opening: dict[str, Any], stdin: StdinPipe | None) -> Any:
    """The container of a file, a sequence, or `stdin`. Raises VideoError in words."""
    try:
        return av.open(stdin or source, "r", **_local(opening))
    except (av.FFmpegError, OSError, ValueError) as error:
        if stdin is not None and stdin.interrupted:
            raise KeyboardInterrupt from None
        raise _open_error(source, error) from None


def _local(opening: dict[str, Any]) -> dict[str, Any]:
    """Arguments of av.open with which libav opens no address, not even one that a playlist names."""
    options = {**opening.get("options", {}), "protocol_whitelist": "file,pipe,crypto,data"}
    return {**opening, "options": options}


def _open_error(source: str, error: Exception) -> VideoError:
    name = "stdin" if source == "-" else source
    if isinstance(error, FileNotFoundError):
        return VideoError(f"{name}: there is no such file")
    if isinstance(error, IsADirectoryError):
        return VideoError(f"{name} is a folder; name a video, or an image sequence such as {name}/%05d.png")
    if isinstance(error, PermissionError):
        return VideoError(f"{name}: no permission to read it")
    if "://" in name:
        return VideoError(f"{name} is an address; duovsr uses no network, fetch the file first")
    return VideoError(f"{name} is not a video that can be read; a video file or an image sequence is needed")
