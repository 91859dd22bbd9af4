"""Tiny films and photos for the tests of the training data: known pictures, known motion."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np

from training.data.arrays import U8, generator


def picture(height: int, width: int, seed: int = 0) -> U8:
    """A colourful picture with detail at every scale, (h, w, 3)."""
    rng = generator(seed, "picture")
    total = np.zeros((height, width, 3), np.float32)
    for cell in (2, 5, 11, 30):
        small = rng.uniform(0, 255, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        total += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) * (1 + cell) / 52
    return np.clip(total, 0, 255).astype(np.uint8)


def film(frames: int, height: int, width: int, dy: int = 1, dx: int = 3, seed: int = 0) -> U8:
    """The picture gliding: frame t shows it from (dy t, dx t), so the flow is (-dx, -dy) everywhere."""
    large = picture(height + abs(dy) * frames, width + abs(dx) * frames, seed)
    return np.stack([large[dy * t : dy * t + height, dx * t : dx * t + width] for t in range(frames)])


def save_video(path: Path, clip: U8, crf: int = 4) -> None:
    """4:4:4 H.264, nearly lossless as it is, tagged BT.709."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=24, options={"crf": str(crf), "x264-params": "mbtree=0:threads=1"}
        )
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace = 1
        stream.codec_context.color_range = 1
        for image in clip:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format="yuv444p", dst_colorspace="ITU709"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def save_photo(path: Path, image: U8) -> None:
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
