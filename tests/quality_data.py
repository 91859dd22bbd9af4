"""A data set of one tiny clip, for the tests of the quality benchmark."""

from pathlib import Path

import av
import numpy as np

MAKER = """
import av, numpy as np
def read_video(path, start=0, count=None):
    with av.open(str(path)) as c:
        frames = [f.to_ndarray(format="rgb24") for f in c.decode(video=0)]
    return np.stack(frames[start:][:count])
def make_lr(gt, kind, scale=4, seed=0, name=""):
    t, h, w, c = gt.shape
    return gt.reshape(t, h // scale, scale, w // scale, scale, c).mean((2, 4)).round().astype(np.uint8)
"""


def write_data(folder: Path, frames: int = 4) -> Path:
    """A folder with eval_public/tiny.mp4 (288x192) and a make_lr.py."""
    (folder / "eval_public").mkdir(parents=True)
    (folder / "make_lr.py").write_text(MAKER)
    y, x = np.mgrid[:192, :288]
    with av.open(str(folder / "eval_public" / "tiny.mp4"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=24, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 288, 192, "rgb24"
        grain = np.random.default_rng(0).integers(-30, 30, (192, 288))
        for t in range(frames):
            wave = 128 + 60 * np.sin((x + 3 * t) / 9) * np.cos(y / 7) + grain
            frame = np.repeat(wave[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return folder
