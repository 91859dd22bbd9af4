"""Frames into a temporary file of ComfyUI that lives as long as the VIDEO that it becomes."""

from __future__ import annotations

import os
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import folder_paths
import numpy as np
from comfy_api.latest import InputImpl
from torch import Tensor

from ..duovsr_vs.errors import OptionError, VideoError
from ..duovsr_vs.video.memory import Trimmer
from ..duovsr_vs.video.scheduling import usual_scheduling
from .decode import UNSET, FileSource, Picture, TensorSource
from .sound import track_of

CODECS = {"h264": "libx264", "h265": "libx265", "av1": "libsvtav1", "ffv1 (lossless)": "ffv1"}
BT709, BT2020 = 1, 9
THREADS = 2
"""Fixed, since what x264 writes depends on it."""
LOOKAHEAD = 20_736_000
"""Pixels that x264 looks ahead, within its usual 40 and the 10 frames of its fast presets: each takes 3 bytes."""
BAND = 64
"""Rows that are converted at once, so that no copies of the whole frame lie beside it."""
TRIM_SECONDS = 0.2


class TemporaryVideo(InputImpl.VideoFromFile):
    """A VIDEO whose file goes when nobody holds the VIDEO any more."""

    def __init__(self, path: Path):
        super().__init__(str(path))
        weakref.finalize(self, path.unlink, missing_ok=True)

    def as_trimmed(self, *args: Any, **options: Any) -> Any:
        """A part; it keeps the whole, and so its file."""
        part = super().as_trimmed(*args, **options)
        if part is not None:
            part.whole = self
        return part


def temporary_path(codec: str) -> Path:
    """A new name; Matroska for what mp4 does not hold well."""
    folder = Path(folder_paths.get_temp_directory())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder / f"duovsr_{uuid.uuid4().hex}.{'mkv' if codec.startswith('ffv1') else 'mp4'}"


def check_codec(codec: str) -> None:
    """OptionError where this PyAV has no such encoder."""
    try:
        av.codec.Codec(CODECS[codec], "w")
    except (KeyError, av.codec.codec.UnknownCodecError):
        there = [name for name, encoder in CODECS.items() if encoder in av.codecs_available]
        raise OptionError(
            f"codec {codec}: this build of PyAV has no encoder for it; choose {' or '.join(there)}"
        ) from None


class Writer:
    """Encodes frames at the times of their source, with the source's sound beside them."""

    def __init__(self, path: Path, source: FileSource | TensorSource, size: tuple[int, int], codec: str, crf: int):
        """size: (width, height)."""
        self._source, self._codec = source, codec
        self._muxer = "matroska" if path.suffix == ".mkv" else "mp4"
        # Not with faststart: that writes all of it a second time, which Cancel could not end, and Save Video copies it.
        self._output: Any = av.open(str(path), "w", format=self._muxer)
        self._stream = self._video(source.picture, size, crf)
        self._sound = track_of(source, self._output, self._muxer)
        self._written = 0
        self._image: Any = av.VideoFrame(*size, "rgb48le")
        rows = np.frombuffer(self._image.planes[0], np.uint16).reshape(size[1], -1)
        self._pixels = rows[:, : 3 * size[0]].reshape(size[1], size[0], 3)
        self._trimmer, self._trimmed = Trimmer(), 0.0
        with usual_scheduling():
            self._output.start_encoding()

    def _video(self, picture: Picture, size: tuple[int, int], crf: int) -> Any:
        encoder = CODECS[self._codec]
        lossless = encoder == "ffv1"
        options = {"level": "3"} if lossless else {"crf": str(crf)}
        if encoder == "libx264":
            options["rc-lookahead"] = str(min(max(LOOKAHEAD // (size[0] * size[1]), 10), 40))
        if encoder == "libx265":
            options["x265-params"] = "log-level=none"
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it writes to stderr by itself
        stream: Any = self._output.add_stream(encoder, rate=picture.rate, options=options)
        stream.time_base = stream.codec_context.time_base = picture.time_base
        stream.width, stream.height = size
        stream.pix_fmt = self._pixels(picture, size)
        stream.codec_context.thread_count = THREADS
        hdr = picture.is_hdr
        if not lossless:
            context = stream.codec_context
            context.colorspace, context.color_range = BT2020 if hdr else BT709, 1
            context.color_primaries = picture.primaries if picture.primaries not in (0, UNSET) else BT709
            context.color_trc = picture.transfer if picture.transfer not in (0, UNSET) else BT709
        if picture.sar is not None:
            stream.codec_context.sample_aspect_ratio = picture.sar
        return stream

    def _pixels(self, picture: Picture, size: tuple[int, int]) -> str:
        """As many bits as the source has; 4:2:0 has even sides only."""
        if self._codec.startswith("ffv1"):
            return "gbrp16le"
        deep = picture.bits > 8 or self._codec == "av1"
        odd = size[0] % 2 or size[1] % 2
        if odd and self._codec == "av1":
            raise OptionError(f"av1 has even sides only, and the output is {size[0]}x{size[1]}; choose another codec")
        return ("yuv444p" if odd else "yuv420p") + ("10le" if deep else "")

    def write(self, frame: Tensor) -> None:
        """frame: (3 h w) float32 RGB; what lies beyond [0, 1] is cut off."""
        for top in range(0, frame.shape[1], BAND):
            values = frame[:, top : top + BAND].clamp(0, 1).mul_(65535).round_()
            self._pixels[top : top + BAND] = values.movedim(0, -1).numpy()
        if self._codec.startswith("ffv1"):
            image = self._image.reformat(format="gbrp16le")
        else:
            matrix = BT2020 if self._source.picture.is_hdr else BT709
            image = self._image.reformat(format=self._stream.pix_fmt, dst_colorspace=matrix)
        stamps = self._source.stamps
        image.pts, image.time_base = stamps[self._written] - stamps[0], self._source.picture.time_base
        self._written += 1
        self._output.mux(self._stream.encode(image))
        self._sound.write_until(Fraction(image.pts) * image.time_base)
        if time.monotonic() - self._trimmed > TRIM_SECONDS:  # the heap keeps what frames and tensors leave
            self._trimmed = time.monotonic()
            self._trimmer.now()

    def finish(self) -> None:
        self._output.mux(self._stream.encode(None))
        self._sound.write_until(None)
        self._output.close()

    def abort(self) -> None:
        self._output.close()


@contextmanager
def written(
    path: Path, source: FileSource | TensorSource, size: tuple[int, int], codec: str, crf: int
) -> Iterator[Writer]:
    """A writer whose file is whole, or gone, at the end. VideoError where the disk or the encoder refuses."""
    writer = None
    try:
        writer = Writer(path, source, size, codec, crf)
        yield writer
        writer.finish()
    except (av.FFmpegError, OSError) as error:
        _give_up(writer, path)
        if isinstance(error, VideoError):
            raise
        raise _unwritable(path.parent, error) from error
    except BaseException:  # Cancel is none of Exception
        _give_up(writer, path)
        raise


def _unwritable(folder: Path, error: OSError) -> VideoError:
    return VideoError(
        f"the upscaled video could not be written to {folder} ({error.strerror or error}); free some space there, or "
        "start ComfyUI with another --temp-directory"
    )


def _give_up(writer: Writer | None, path: Path) -> None:
    try:
        if writer is not None:
            writer.abort()
    except (av.FFmpegError, OSError):
        pass  # the error that led here says more
    path.unlink(missing_ok=True)
